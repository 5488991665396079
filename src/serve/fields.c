/* fields: see fields.h. */
#include "serve/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A body may have a million unknown fields: so many are told. */
enum { MAX_WARNINGS = 32 };

static unsigned type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING: return MLXR_FIELD_STRING;
    case JSON_TRUE:
    case JSON_FALSE: return MLXR_FIELD_BOOL;
    case JSON_INTEGER: return MLXR_FIELD_INT;
    case JSON_REAL: return MLXR_FIELD_REAL;
    case JSON_OBJECT: return MLXR_FIELD_OBJECT;
    case JSON_ARRAY: return MLXR_FIELD_LIST;
    case JSON_NULL: break;
    }
    return 0;
}

static const struct {
    unsigned type;
    const char *name, *json;
} type_names[] = {{MLXR_FIELD_STRING, "a string", "string"},  {MLXR_FIELD_BOOL, "true or false", "boolean"},
                  {MLXR_FIELD_INT, "an integer", "integer"},  {MLXR_FIELD_REAL, "a number", "number"},
                  {MLXR_FIELD_OBJECT, "an object", "object"}, {MLXR_FIELD_LIST, "a list", "array"}};

static const char *type_name(unsigned type)
{
    for (size_t i = 0; i < MLXR_COUNT(type_names); i++)
        if (type_names[i].type == type) return type_names[i].name;
    return "null";
}

/* "a string or a list". */
static void name_types(mlxr_buf *out, unsigned types)
{
    size_t n = 0;

    if (types & MLXR_FIELD_REAL) types &= ~(unsigned)MLXR_FIELD_INT;
    for (size_t i = 0; i < MLXR_COUNT(type_names); i++) {
        if (!(types & type_names[i].type)) continue;
        mlxr_buf_str(out, n++ ? " or " : "");
        mlxr_buf_str(out, type_names[i].name);
    }
}

static bool has_word(const char *words, const char *s)
{
    size_t n = strlen(s);

    for (const char *p = words; *p;) {
        size_t k = strcspn(p, "|");
        if (k == n && memcmp(p, s, n) == 0) return true;
        p += k + (p[k] == '|');
    }
    return false;
}

static bool is_whole(const json_t *v)
{
    double x;

    if (json_is_integer(v)) return true;
    if (!json_is_real(v)) return false;
    x = json_real_value(v);
    return x == floor(x) && fabs(x) <= 9007199254740992.0;
}

bool mlxr_field_whole(int64_t *out, const json_t *v)
{
    *out = 0;
    if (!is_whole(v)) return false;
    *out = json_is_integer(v) ? json_integer_value(v) : (int64_t)json_real_value(v);
    return true;
}

static bool fits_types(unsigned types, const json_t *v)
{
    unsigned t = type_of(v);

    if (types & t) return true;
    if (t == MLXR_FIELD_INT) return types & MLXR_FIELD_REAL;
    return t == MLXR_FIELD_REAL && (types & MLXR_FIELD_INT) && is_whole(v);
}

/* What is shown of a name or a value that came from outside: so much of it that whole characters fit. */
struct shown {
    char text[104];
};

static struct shown show(const char *s)
{
    struct shown out;
    size_t n = strlen(s), most = sizeof out.text - 1;

    if (n > most) {
        n = most;
        while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80) n--;
    }
    memcpy(out.text, s, n);
    out.text[n] = '\0';
    return out;
}

static mlxr_status check_number(const mlxr_fields *fields, const mlxr_field *f, const json_t *v,
                                mlxr_error *err)
{
    double x = json_number_value(v);
    bool fits = x >= f->min && x <= f->max;
    char text[32];

    if (f->min == 0 && f->max == 0) return MLXR_OK;
    if (json_is_integer(v)) {
        /* A bound that int64_t cannot hold bounds nothing; past 2^53 a double would round the value onto it. */
        json_int_t i = json_integer_value(v);
        fits = (f->min <= -9.3e18 || (f->min < 9.2e18 && i >= (json_int_t)ceil(f->min))) &&
               (f->max >= 9.2e18 || (f->max > -9.2e18 && i <= (json_int_t)floor(f->max)));
        snprintf(text, sizeof text, "%lld", (long long)i);
    } else {
        snprintf(text, sizeof text, "%.15g", x);
    }
    if (fits) return MLXR_OK;
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is %s, wanted %.15g to %.15g", fields->what,
                     f->name, text, f->min, f->max);
}

static mlxr_status check(const mlxr_fields *fields, const mlxr_field *f, const json_t *v, mlxr_error *err)
{
    mlxr_buf wanted = {0};
    mlxr_status st = MLXR_OK;

    if (!fits_types(f->types, v)) {
        name_types(&wanted, f->types);
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is %s, wanted %s", fields->what, f->name,
                       type_name(type_of(v)), wanted.data && !wanted.failed ? wanted.data : "something else");
        mlxr_buf_clear(&wanted);
        return st;
    }
    if (json_is_number(v)) return check_number(fields, f, v, err);
    if (json_is_string(v)) {
        if (strlen(json_string_value(v)) != json_string_length(v))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" has a NUL character", fields->what,
                             f->name);
        if (f->filled && json_string_length(v) == 0)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is empty", fields->what, f->name);
        if (f->words && !has_word(f->words, json_string_value(v)))
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is \"%s\", wanted one of %s",
                             fields->what, f->name, show(json_string_value(v)).text, f->words);
    }
    return MLXR_OK;
}

static void store(void *into, const mlxr_field *f, const json_t *v)
{
    char *at = (char *)into + f->offset;

    switch (f->types) {
    case MLXR_FIELD_STRING: *(const char **)(void *)at = json_string_value(v); break;
    case MLXR_FIELD_BOOL: *(bool *)(void *)at = json_is_true(v); break;
    case MLXR_FIELD_INT:
        *(int64_t *)(void *)at = json_is_integer(v) ? json_integer_value(v) : (int64_t)json_real_value(v);
        break;
    case MLXR_FIELD_REAL:
    case MLXR_FIELD_REAL | MLXR_FIELD_INT: *(double *)(void *)at = json_number_value(v); break;
    default: *(const json_t **)(void *)at = v; break;
    }
}

/* Whether v asks for nothing. */
static bool is_neutral(const mlxr_field *f, const json_t *v)
{
    json_t *neutral = f->neutral ? json_loads(f->neutral, JSON_DECODE_ANY, NULL) : NULL;
    bool same = neutral && json_equal(neutral, v);

    if (neutral && json_is_number(neutral) && json_is_number(v))
        same = json_number_value(neutral) == json_number_value(v);
    json_decref(neutral);
    return same;
}

/* Edits between two names, as far as 2. */
static size_t distance(const char *a, const char *b)
{
    size_t row[65], n = strlen(b), m = strlen(a);

    if (n > 64 || m > 64) return 99;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t before = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t here = before + (a[i - 1] != b[j - 1]);
            before = row[j];
            if (row[j] + 1 < here) here = row[j] + 1;
            if (row[j - 1] + 1 < here) here = row[j - 1] + 1;
            row[j] = here;
        }
    }
    return row[n];
}

/* The name of the table that is most like it: one edit away, of longer names two. NULL: none is. */
static const char *nearest(const mlxr_fields *fields, const char *name)
{
    const char *near = NULL;
    size_t best = strlen(name) < 4 ? 2 : 3;

    for (size_t i = 0; i < fields->n; i++) {
        size_t d = distance(name, fields->fields[i].name);
        if (d >= best) continue;
        best = d;
        near = fields->fields[i].name;
    }
    return near;
}

static mlxr_status warn(json_t *warnings, const char *text, mlxr_error *err)
{
    size_t n = json_array_size(warnings);

    if (n > MAX_WARNINGS) return MLXR_OK;
    return json_array_append_new(warnings,
                                 json_string(n < MAX_WARNINGS ? text : "request: and more of this")) == 0
               ? MLXR_OK
               : mlxr_fail_nomem(err, "request");
}

static mlxr_status unknown(const mlxr_fields *fields, const char *name, json_t *warnings, mlxr_error *err)
{
    const char *near = nearest(fields, name);
    mlxr_error text = {0};

    mlxr_fail(&text, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is unknown here%s%s%s", fields->what,
              show(name).text, near ? ", is \"" : "", near ? near : "", near ? "\" meant?" : "");
    if (warnings) return warn(warnings, text.message, err);
    if (err) *err = text;
    return MLXR_E_INVALID_ARGUMENT;
}

static const mlxr_field *find(const mlxr_fields *fields, const char *name)
{
    for (size_t i = 0; i < fields->n; i++)
        if (strcmp(fields->fields[i].name, name) == 0) return &fields->fields[i];
    return NULL;
}

mlxr_status mlxr_fields_read(void *into, const mlxr_fields *fields, const json_t *object, json_t *warnings,
                             const char **field, mlxr_error *err)
{
    const char *key;
    json_t *value;
    mlxr_status st;

    if (field) *field = NULL;
    for (size_t i = 0; i < fields->n; i++) {
        const mlxr_field *f = &fields->fields[i];
        const json_t *v = json_object_get(object, f->name);

        if (field) *field = f->name;
        if (!v || json_is_null(v)) {
            if (f->required)
                return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is required", fields->what,
                                 f->name);
            continue;
        }
        if (f->use == MLXR_FIELD_REFUSED) {
            if (is_neutral(f, v)) continue;
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is not supported here%s%s",
                             fields->what, f->name, f->help ? ": " : "", f->help ? f->help : "");
        }
        if ((st = check(fields, f, v, err)) != MLXR_OK) return st;
        if (f->use == MLXR_FIELD_WARNED) {
            mlxr_error text = {0};
            if (is_neutral(f, v) || !warnings) continue;
            mlxr_fail(&text, MLXR_OK, "%s: \"%s\" has no effect here", fields->what, f->name);
            if ((st = warn(warnings, text.message, err)) != MLXR_OK) return st;
            continue;
        }
        st = MLXR_OK;
        if (f->take)
            st = f->take(into, f, v, err);
        else if (f->offset != MLXR_FIELD_NOWHERE)
            store(into, f, v);
        if (st != MLXR_OK) return st;
    }
    if (field) *field = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (find(fields, key)) continue;
        if (field) *field = key;
        if ((st = unknown(fields, key, warnings, err)) != MLXR_OK) return st;
    }
    if (field) *field = NULL;
    return MLXR_OK;
}

mlxr_status mlxr_fields_check(const mlxr_fields *fields, const char *what, json_t *object, mlxr_error *err)
{
    mlxr_fields named = *fields;
    mlxr_status st;

    named.what = what;
    if (!json_is_object(object)) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: is no object", what);
    for (size_t i = 0; i < fields->n; i++) {
        const mlxr_field *f = &fields->fields[i];
        const json_t *v = json_object_get(object, f->name);

        if (v && !json_is_null(v)) {
            if ((st = check(&named, f, v, err)) != MLXR_OK) return st;
        } else if (f->required) {
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\" is required", what, f->name);
        } else if (v) {
            (void)json_object_del(object, f->name);
        }
    }
    return MLXR_OK;
}

/* ---- for OpenAPI ---- */

/* Sets s[key], which is taken; false: out of memory. */
static bool set(json_t *s, const char *key, json_t *value)
{
    return json_object_set_new(s, key, value) == 0;
}

static json_t *bound(double x)
{
    return x == floor(x) && fabs(x) <= 9007199254740992.0 ? json_integer((json_int_t)x) : json_real(x);
}

static bool set_words(json_t *s, const char *words, bool nullable)
{
    json_t *list = json_array();
    bool ok = list != NULL;

    for (const char *p = words; ok && *p;) {
        size_t k = strcspn(p, "|");
        ok = json_array_append_new(list, json_stringn(p, k)) == 0;
        p += k + (p[k] == '|');
    }
    if (ok && nullable) ok = json_array_append_new(list, json_null()) == 0;
    return set(s, "enum", list) && ok;
}

static json_t *plain_schema(const mlxr_field *f, bool nullable);

/* One of the words, or a value of another type. */
static json_t *words_schema(const mlxr_field *f, bool nullable)
{
    mlxr_field words = *f, others = *f;

    words.types = MLXR_FIELD_STRING;
    others.types &= ~(unsigned)MLXR_FIELD_STRING;
    others.words = NULL;
    return json_pack("{s:[o,o]}", "anyOf", plain_schema(&words, false), plain_schema(&others, nullable));
}

/* What can be said of types, bounds and words. */
static json_t *plain_schema(const mlxr_field *f, bool nullable)
{
    json_t *s = json_object(), *types = json_array();
    bool ok = s && types;

    if (f->words && f->types & ~(unsigned)MLXR_FIELD_STRING) {
        json_decref(s);
        json_decref(types);
        return words_schema(f, nullable);
    }
    if (f->types == MLXR_FIELD_ANY) {
        json_decref(types);
        if (ok && nullable) return s;
        types = json_pack("[s,s,s,s,s]", "string", "boolean", "number", "object", "array");
        ok = s && types;
    } else {
        for (size_t i = 0; i < MLXR_COUNT(type_names) && ok; i++)
            if (f->types & type_names[i].type &&
                !(type_names[i].type == MLXR_FIELD_INT && f->types & MLXR_FIELD_REAL))
                ok = json_array_append_new(types, json_string(type_names[i].json)) == 0;
        if (ok && nullable) ok = json_array_append_new(types, json_string("null")) == 0;
        if (ok && json_array_size(types) == 1) {
            json_t *one = json_incref(json_array_get(types, 0));
            json_decref(types);
            types = one;
        }
    }
    ok = set(s, "type", types) && ok;
    if (ok && f->words) ok = set_words(s, f->words, nullable);
    if (ok && f->filled) ok = set(s, "minLength", json_integer(1));
    /* With other types beside them the same keywords speak of the numbers alone. */
    if (ok && (f->min != 0 || f->max != 0)) {
        ok = set(s, "minimum", bound(f->min)) && set(s, "maximum", bound(f->max));
    } else if (ok && f->types & MLXR_FIELD_INT && !(f->types & MLXR_FIELD_REAL)) {
        ok = set(s, "minimum", json_integer(INT64_MIN)) && set(s, "maximum", json_integer(INT64_MAX));
    }
    if (ok) return s;
    json_decref(s);
    return NULL;
}

/* Of a field that is refused: the value that asks for nothing, or null. */
static json_t *neutral_schema(const mlxr_field *f)
{
    json_t *neutral = f->neutral ? json_loads(f->neutral, JSON_DECODE_ANY, NULL) : NULL;

    if (f->neutral && !neutral) return NULL;
    return neutral ? json_pack("{s:[o,n]}", "enum", neutral) : json_pack("{s:s}", "type", "null");
}

/* The field's own schema, or null. */
static json_t *own_schema(const mlxr_field *f, bool nullable)
{
    json_t *own = json_loads(f->schema, JSON_REJECT_DUPLICATES, NULL);

    if (!own || !nullable) return own;
    return json_pack("{s:[o,{s:s}]}", "anyOf", own, "type", "null");
}

json_t *mlxr_field_schema(const mlxr_field *f)
{
    json_t *s = f->use == MLXR_FIELD_REFUSED ? neutral_schema(f)
                : f->schema                  ? own_schema(f, !f->required)
                                             : plain_schema(f, !f->required);
    bool ok = s != NULL;

    if (ok && f->help) ok = set(s, "description", json_string(f->help));
    if (ok && f->fallback) ok = set(s, "default", json_loads(f->fallback, JSON_DECODE_ANY, NULL));
    if (ok) return s;
    json_decref(s);
    return NULL;
}

json_t *mlxr_fields_schema(const mlxr_fields *fields, bool closed)
{
    json_t *s = json_pack("{s:s, s:{}}", "type", "object", "properties"), *required = json_array();
    bool ok = s && required;

    for (size_t i = 0; i < fields->n && ok; i++) {
        const mlxr_field *f = &fields->fields[i];
        ok = set(json_object_get(s, "properties"), f->name, mlxr_field_schema(f));
        if (ok && f->required) ok = json_array_append_new(required, json_string(f->name)) == 0;
    }
    if (ok && json_array_size(required)) ok = json_object_set(s, "required", required) == 0;
    if (ok && closed) ok = set(s, "additionalProperties", json_false());
    json_decref(required);
    if (ok) return s;
    json_decref(s);
    return NULL;
}

/* ---- bodies ---- */

/* Whether some text in it holds a NUL character. Prompts are texts that end with one: what follows would be lost. Keys cannot.
 * The parser has bounded the depth. */
static bool has_nul(const json_t *v)
{
    const char *key;
    json_t *member;
    size_t i;

    switch (json_typeof(v)) {
    case JSON_STRING: return strlen(json_string_value(v)) != json_string_length(v);
    case JSON_ARRAY:
        json_array_foreach((json_t *)(uintptr_t)v, i, member)
        {
            if (has_nul(member)) return true;
        }
        return false;
    case JSON_OBJECT:
        json_object_foreach((json_t *)(uintptr_t)v, key, member)
        {
            if (has_nul(member)) return true;
        }
        return false;
    default: return false;
    }
}

/* The text with ".0" behind each integer of 19 digits and more: JSON sets numbers no bound, and int64_t does. */
static void widen_integers(mlxr_buf *out, const char *text, size_t n)
{
    bool in_string = false;

    for (size_t i = 0; i < n;) {
        size_t k = i;
        if (in_string) {
            char c = text[i++];
            mlxr_buf_char(out, c);
            if (c == '\\' && i < n) mlxr_buf_char(out, text[i++]);
            in_string = c != '"';
            continue;
        }
        while (k < n && text[k] >= '0' && text[k] <= '9') k++;
        if (k == i) {
            in_string = text[i] == '"';
            mlxr_buf_char(out, text[i++]);
            continue;
        }
        mlxr_buf_append(out, text + i, k - i);
        if (k - i >= 19 && !(k < n && (text[k] == '.' || text[k] == 'e' || text[k] == 'E')) &&
            !(i > 0 && strchr(".eE+", text[i - 1])) &&
            !(i > 1 && text[i - 1] == '-' && strchr("eE", text[i - 2])))
            mlxr_buf_str(out, ".0");
        i = k;
    }
}

mlxr_status mlxr_body_object(json_t **out, const char *body, size_t n, mlxr_error *err)
{
    mlxr_error why = {0};
    mlxr_status st;

    *out = NULL;
    if (n == 0) return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "missing request body");
    st = mlxr_json_parse(out, body, n, "request", &why);
    if (st == MLXR_E_FORMAT && strstr(why.message, "too big")) {
        mlxr_buf wide = {0};
        widen_integers(&wide, body, n);
        st = wide.failed ? mlxr_fail_nomem(&why, "request")
                         : mlxr_json_parse(out, wide.data, wide.len, "request", &why);
        mlxr_buf_clear(&wide);
    }
    if (st != MLXR_OK) {
        if (err) *err = why;
        return st;
    }
    if (!json_is_object(*out))
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "request: the body is not a JSON object");
    else if (has_nul(*out))
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                       "request: a text in it has a NUL character, which no prompt can have");
    if (st == MLXR_OK) return st;
    json_decref(*out);
    *out = NULL;
    return st;
}
