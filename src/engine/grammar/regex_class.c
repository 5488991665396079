/* Sets of characters that a regular expression names: ECMA-262's classes, and Unicode properties out of utf8proc. */
#include <stdlib.h>
#include <utf8proc.h>

#include "engine/grammar/lang_chars.h"

enum { LAST_CHAR = 0x10ffff };

#define GC(name) (1u << UTF8PROC_CATEGORY_##name)
#define GC_LC    (GC(LU) | GC(LL) | GC(LT))
#define GC_L     (GC_LC | GC(LM) | GC(LO))

#include "regex_properties.inc.h"

void lang_ranges_add(lang_ranges *r, uint32_t first, uint32_t last)
{
    if (r->failed) return;
    if (r->n == r->cap || !r->v) {
        size_t cap = r->cap ? r->cap * 2 : 16;
        mlxr_char_range *v = mlxr_realloc_array(r->v, cap, sizeof *v);
        if (!v) {
            r->failed = true;
            return;
        }
        r->v = v;
        r->cap = cap;
    }
    r->v[r->n++] = (mlxr_char_range){first, last};
}

void lang_ranges_not(lang_ranges *r)
{
    size_t n;
    uint32_t from = 0;
    r->n = n = lang_ranges_tidy(r->v, r->n);
    lang_ranges_add(r, LAST_CHAR, LAST_CHAR); /* room for one more than there are */
    if (r->failed || !r->v) return;
    r->n = 0;
    for (size_t i = 0; i < n; i++) { /* what is written lies before what is read */
        mlxr_char_range range = r->v[i];
        if (range.first > from) r->v[r->n++] = (mlxr_char_range){from, range.first - 1};
        from = range.last + 1;
    }
    if (from <= LAST_CHAR) r->v[r->n++] = (mlxr_char_range){from, LAST_CHAR};
}

void lang_ranges_clear(lang_ranges *r)
{
    free(r->v);
    *r = (lang_ranges){0};
}

static void add_others(lang_ranges *r, lang_ranges *of)
{
    lang_ranges_not(of);
    for (size_t i = 0; of->v && i < of->n; i++) lang_ranges_add(r, of->v[i].first, of->v[i].last);
    r->failed |= of->failed;
    lang_ranges_clear(of);
}

bool lang_ranges_add_class(lang_ranges *r, char escape)
{
    static const mlxr_char_range space[] = {
        {'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a},
        {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    lang_ranges others = {0};
    switch (escape) {
    case 'd': lang_ranges_add(r, '0', '9'); return true;
    case 'w':
        lang_ranges_add(r, '0', '9');
        lang_ranges_add(r, 'A', 'Z');
        lang_ranges_add(r, '_', '_');
        lang_ranges_add(r, 'a', 'z');
        return true;
    case 's':
        for (size_t i = 0; i < MLXR_COUNT(space); i++) lang_ranges_add(r, space[i].first, space[i].last);
        return true;
    case 'D':
    case 'W':
    case 'S':
        lang_ranges_add_class(&others, (char)(escape - 'A' + 'a'));
        add_others(r, &others);
        return true;
    default: return false;
    }
}

void lang_ranges_add_dot(lang_ranges *r)
{
    lang_ranges_add(r, 0, '\n' - 1);
    lang_ranges_add(r, '\n' + 1, '\r' - 1);
    lang_ranges_add(r, '\r' + 1, 0x2027);
    lang_ranges_add(r, 0x202a, LAST_CHAR);
}

/* ---- properties ---- */

#define GC_M (GC(MN) | GC(MC) | GC(ME))
#define GC_N (GC(ND) | GC(NL) | GC(NO))
#define GC_P (GC(PC) | GC(PD) | GC(PS) | GC(PE) | GC(PI) | GC(PF) | GC(PO))
#define GC_S (GC(SM) | GC(SC) | GC(SK) | GC(SO))
#define GC_Z (GC(ZS) | GC(ZL) | GC(ZP))
#define GC_C (GC(CC) | GC(CF) | GC(CS) | GC(CO) | GC(CN))

/* Values of General_Category and their aliases, as PropertyValueAliases.txt has them. */
static const struct {
    const char *names;
    uint32_t categories;
} categories[] = {
    {" LC Cased_Letter ", GC_LC},
    {" L Letter ", GC_L},
    {" Lu Uppercase_Letter ", GC(LU)},
    {" Ll Lowercase_Letter ", GC(LL)},
    {" Lt Titlecase_Letter ", GC(LT)},
    {" Lm Modifier_Letter ", GC(LM)},
    {" Lo Other_Letter ", GC(LO)},
    {" M Mark Combining_Mark ", GC_M},
    {" Mn Nonspacing_Mark ", GC(MN)},
    {" Mc Spacing_Mark ", GC(MC)},
    {" Me Enclosing_Mark ", GC(ME)},
    {" N Number ", GC_N},
    {" Nd Decimal_Number digit ", GC(ND)},
    {" Nl Letter_Number ", GC(NL)},
    {" No Other_Number ", GC(NO)},
    {" P Punctuation punct ", GC_P},
    {" Pc Connector_Punctuation ", GC(PC)},
    {" Pd Dash_Punctuation ", GC(PD)},
    {" Ps Open_Punctuation ", GC(PS)},
    {" Pe Close_Punctuation ", GC(PE)},
    {" Pi Initial_Punctuation ", GC(PI)},
    {" Pf Final_Punctuation ", GC(PF)},
    {" Po Other_Punctuation ", GC(PO)},
    {" S Symbol ", GC_S},
    {" Sm Math_Symbol ", GC(SM)},
    {" Sc Currency_Symbol ", GC(SC)},
    {" Sk Modifier_Symbol ", GC(SK)},
    {" So Other_Symbol ", GC(SO)},
    {" Z Separator ", GC_Z},
    {" Zs Space_Separator ", GC(ZS)},
    {" Zl Line_Separator ", GC(ZL)},
    {" Zp Paragraph_Separator ", GC(ZP)},
    {" C Other ", GC_C},
    {" Cc Control cntrl ", GC(CC)},
    {" Cf Format ", GC(CF)},
    {" Cs Surrogate ", GC(CS)},
    {" Co Private_Use ", GC(CO)},
    {" Cn Unassigned ", GC(CN)},
};

static bool listed(const char *names, const char *name, size_t n)
{
    for (const char *at = names; (at = strchr(at, ' ')) && at[1]; at++)
        if (strncmp(at + 1, name, n) == 0 && at[1 + n] == ' ') return true;
    return false;
}

static bool is_name(const char *name, size_t n, const char *what)
{
    return strlen(what) == n && memcmp(name, what, n) == 0;
}

/* Planes 4 to 13 have no characters in any Unicode, and 15 and 16 are for private use: they are not asked one by one. */
static void add_categories(lang_ranges *r, uint32_t wanted)
{
    enum { EMPTY_FIRST = 0x40000, EMPTY_LAST = 0xdffff, PRIVATE_FIRST = 0xf0000 };
    uint32_t from = UINT32_MAX;
    for (uint32_t cp = 0; cp <= LAST_CHAR + 1; cp++) {
        bool in = false;
        if (cp == EMPTY_FIRST + 1) cp = EMPTY_LAST;
        if (cp == PRIVATE_FIRST + 1) cp = 0xffffd;
        if (cp == 0x100001) cp = 0x10fffd;
        if (cp <= LAST_CHAR) in = wanted >> utf8proc_category((utf8proc_int32_t)cp) & 1;
        if (in && from == UINT32_MAX) from = cp;
        if (!in && from != UINT32_MAX) {
            lang_ranges_add(r, from, cp - 1);
            from = UINT32_MAX;
        }
    }
}

static bool add_category(lang_ranges *r, const char *name, size_t n)
{
    for (size_t i = 0; i < MLXR_COUNT(categories); i++)
        if (n && listed(categories[i].names, name, n)) {
            add_categories(r, categories[i].categories);
            return true;
        }
    return false;
}

/* property: "Script", "Script_Extensions", "" for one that is true or not. */
static bool add_listed(lang_ranges *r, const char *property, const char *name, size_t n)
{
    for (size_t i = 0; i < MLXR_COUNT(listed_properties); i++) {
        if (strcmp(listed_properties[i].property, property) != 0 ||
            !(is_name(name, n, listed_properties[i].name) || is_name(name, n, listed_properties[i].alias)))
            continue;
        if (listed_properties[i].categories) add_categories(r, listed_properties[i].categories);
        for (size_t j = 0; j < listed_properties[i].n; j++)
            lang_ranges_add(r, listed_properties[i].ranges[j].first, listed_properties[i].ranges[j].last);
        return true;
    }
    return false;
}

mlxr_status lang_ranges_add_property(lang_ranges *r, const char *name, size_t n, bool negated, lang_work *w)
{
    lang_ranges set = {0};
    const char *equals = memchr(name, '=', n);
    size_t n_key = equals ? (size_t)(equals - name) : 0;
    bool found = true;

    if (equals && (is_name(name, n_key, "General_Category") || is_name(name, n_key, "gc"))) {
        found = add_category(&set, equals + 1, n - n_key - 1);
    } else if (equals && (is_name(name, n_key, "Script") || is_name(name, n_key, "sc"))) {
        found = add_listed(&set, "Script", equals + 1, n - n_key - 1);
    } else if (equals && (is_name(name, n_key, "Script_Extensions") || is_name(name, n_key, "scx"))) {
        found = add_listed(&set, "Script_Extensions", equals + 1, n - n_key - 1);
    } else if (equals) {
        found = false;
    } else if (is_name(name, n, "Any")) {
        lang_ranges_add(&set, 0, LAST_CHAR);
    } else if (is_name(name, n, "ASCII")) {
        lang_ranges_add(&set, 0, 0x7f);
    } else if (is_name(name, n, "Assigned")) {
        add_categories(&set, ~GC(CN));
    } else if (is_name(name, n, "ASCII_Hex_Digit") || is_name(name, n, "AHex")) {
        lang_ranges_add(&set, '0', '9');
        lang_ranges_add(&set, 'A', 'F');
        lang_ranges_add(&set, 'a', 'f');
    } else if (is_name(name, n, "White_Space") || is_name(name, n, "space")) {
        lang_ranges_add_class(&set, 's');
        for (size_t i = 0; i < set.n; i++)
            if (set.v[i].first == 0xfeff) set.v[i] = (mlxr_char_range){0x85, 0x85};
    } else if (!add_listed(&set, "", name, n)) {
        found = add_category(&set, name, n);
    }
    if (!found) {
        lang_ranges_clear(&set);
        return mlxr_fail(
            w->err, MLXR_E_UNSUPPORTED,
            "%s: Unicode property \"%.*s\" is not supported (General_Category, the larger scripts, "
            "Alphabetic, Lowercase, Uppercase, Emoji, Any, ASCII, ASCII_Hex_Digit, Assigned and "
            "White_Space are)",
            w->what, (int)(n < 80 ? n : 80), name);
    }
    if (negated) {
        add_others(r, &set);
    } else {
        for (size_t i = 0; i < set.n; i++) lang_ranges_add(r, set.v[i].first, set.v[i].last);
        r->failed |= set.failed;
        lang_ranges_clear(&set);
    }
    return MLXR_OK;
}
