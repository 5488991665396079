/* Formats of JSON Schema (draft 2020-12, 7.3) as languages: the ABNF of their RFCs, written as patterns for regex.c.
 *
 * A writer may be stricter than a format and never laxer. Left out on purpose: leap seconds (:60 is right only where it is 23:59 in
 * UTC), labels of host names with "--" in the third and fourth place (those of IDNA, whose rest is not regular), and
 * what docs/grammars.md says of internationalised names. */
#include "engine/grammar/lang.h"

/* RFC 3339. 29 February: years that 4 divides and 100 does not, and those that 400 divides. No year 0. */
#define BY_4 "(?:0[48]|[2468][048]|[13579][26])"
#define DATE                                                                                               \
    "(?:(?!0000)\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)" \
    "|02-(?:0[1-9]|1\\d|2[0-8]))|(?:\\d\\d" BY_4 "|" BY_4 "00)-02-29)"
#define HOUR_MINUTE "(?:[01]\\d|2[0-3]):[0-5]\\d"
#define TIME        HOUR_MINUTE ":[0-5]\\d(?:\\.\\d+)?(?:[Zz]|[+-]" HOUR_MINUTE ")"

/* RFC 3339, appendix A. */
#define D_SECOND "\\d+S"
#define D_MINUTE "\\d+M(?:" D_SECOND ")?"
#define D_HOUR   "\\d+H(?:" D_MINUTE ")?"
#define D_TIME   "T(?:" D_HOUR "|" D_MINUTE "|" D_SECOND ")"
#define D_DAY    "\\d+D"
#define D_MONTH  "\\d+M(?:" D_DAY ")?"
#define D_YEAR   "\\d+Y(?:" D_MONTH ")?"
#define DURATION "P(?:(?:" D_DAY "|" D_MONTH "|" D_YEAR ")(?:" D_TIME ")?|" D_TIME "|\\d+W)"

/* RFC 1123: labels of 63 characters, 253 in all. To count those would take a state for each: names of up to three labels of
 * any length, or of up to eight of 30 characters, never have more. */
#define LDH "[A-Za-z0-9-]"
#define LABEL(N)                                                                                   \
    "[A-Za-z0-9](?:" LDH "{0,2}[A-Za-z0-9]|" LDH "(?:[A-Za-z0-9]" LDH "|-[A-Za-z0-9])" LDH "{0," N \
    "}[A-Za-z0-9])?"
#define LABEL_63 LABEL("58")
#define LABEL_30 LABEL("25")
#define HOST     "(?:" LABEL_63 "(?:\\." LABEL_63 "){0,2}|" LABEL_30 "(?:\\." LABEL_30 "){0,7})"

/* Letters that IDNA 2008 allows anywhere (PVALID), are written from left to right and stand for themselves in NFC: of Latin, Greek,
 * Cyrillic, kana, Han and Hangul. 11 of them never take more than 63 characters as punycode. */
#define IDN_LETTERS                                                                                          \
    "a-z0-9\\u00df-\\u00f6\\u00f8-"                                                                          \
    "\\u00ff\\u0101\\u0103\\u0105\\u0107\\u0109\\u010b\\u010d\\u010f\\u0111\\u0113"                          \
    "\\u0115\\u0117\\u0119\\u011b\\u011d\\u011f\\u0121\\u0123\\u0125\\u0127\\u0129\\u012b\\u012d\\u012f\\u0" \
    "131"                                                                                                    \
    "\\u0135\\u0137\\u0138\\u013a\\u013c\\u013e\\u0142\\u0144\\u0146\\u0148\\u014b\\u014d\\u014f\\u0151\\u0" \
    "153"                                                                                                    \
    "\\u0155\\u0157\\u0159\\u015b\\u015d\\u015f\\u0161\\u0163\\u0165\\u0167\\u0169\\u016b\\u016d\\u016f\\u0" \
    "171"                                                                                                    \
    "\\u0173\\u0175\\u0177\\u017a\\u017c\\u017e\\u0390\\u03ac-\\u03ce\\u0430-\\u045f\\u3041-\\u3096"         \
    "\\u30a1-\\u30fa\\u4e00-\\u9fff\\uac00-\\ud7a3"
#define IDN_LABEL "(?!..--)(?:[" IDN_LETTERS "](?:[" IDN_LETTERS "-]{0,9}[" IDN_LETTERS "])?|" LABEL_30 ")"
#define IDN_HOST  "(?:" IDN_LABEL "(?:\\." IDN_LABEL "){0,3})"

/* RFC 2673, RFC 4291. */
#define OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define IPV4  OCTET "(?:\\." OCTET "){3}"
#define H16   "[0-9A-Fa-f]{1,4}"
#define LS32  "(?:" H16 ":" H16 "|" IPV4 ")"
#define IPV6                                                                                                \
    "(?:(?:" H16 ":){6}" LS32 "|::(?:" H16 ":){5}" LS32 "|(?:" H16 ")?::(?:" H16 ":){4}" LS32 "|(?:(?:" H16 \
    ":){0,1}" H16 ")?::(?:" H16 ":){3}" LS32 "|(?:(?:" H16 ":){0,2}" H16 ")?::(?:" H16 ":){2}" LS32         \
    "|(?:(?:" H16 ":){0,3}" H16 ")?::" H16 ":" LS32 "|(?:(?:" H16 ":){0,4}" H16 ")?::" LS32 "|(?:(?:" H16   \
    ":){0,5}" H16 ")?::" H16 "|(?:(?:" H16 ":){0,6}" H16 ")?::)"

/* RFC 5321, 4.1.2. The part before the @ has 64 characters at most: *_LOCAL says so. A quoted one has 30, each of which may have a
 * backslash. RFC 6531: a letter beyond ASCII takes up to four bytes. */
#define ATEXT           "A-Za-z0-9!#$%&'*+/=?^_`{|}~-" /* last in a class */
#define QUOTED          "\"(?:[ !#-\\[\\]-~]|\\\\[ -~]){0,30}\""
#define EMAIL_ADDRESS   "\\[(?:" IPV4 "|IPv6:" IPV6 ")\\]"
#define EMAIL           "(?:[" ATEXT "]+(?:\\.[" ATEXT "]+)*|" QUOTED ")@(?:" HOST "|" EMAIL_ADDRESS ")"
#define EMAIL_LOCAL     "[^@\"]{1,64}@.*|\".*"
#define UATEXT          "[\\u00a1-\\u{10ffff}" ATEXT "]+"
#define IDN_EMAIL       "(?:" UATEXT "(?:\\." UATEXT ")*|" QUOTED ")@(?:" IDN_HOST "|" EMAIL_ADDRESS ")"
#define IDN_EMAIL_LOCAL "(?:[!#-?A-~]{1,64}|[^@\"]{1,16})@.*|\".*"

/* RFC 3986 and, with more letters (M) and private ones in queries (P), RFC 3987. */
#define UCS                                                                                                  \
    "\\u00a0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef\\u{10000}-\\u{1fffd}\\u{20000}-\\u{2fffd}\\u{30000}-\\u{" \
    "3fffd}"                                                                                                 \
    "\\u{40000}-\\u{4fffd}\\u{50000}-\\u{5fffd}\\u{60000}-\\u{6fffd}\\u{70000}-\\u{7fffd}\\u{80000}-\\u{"    \
    "8fffd}"                                                                                                 \
    "\\u{90000}-\\u{9fffd}\\u{a0000}-\\u{afffd}\\u{b0000}-\\u{bfffd}\\u{c0000}-\\u{cfffd}\\u{d0000}-\\u{"    \
    "dfffd}"                                                                                                 \
    "\\u{e1000}-\\u{efffd}"
#define PRIVATE       "\\ue000-\\uf8ff\\u{f0000}-\\u{ffffd}\\u{100000}-\\u{10fffd}"
#define PCT           "%[0-9A-Fa-f]{2}"
#define UNRESERVED    "A-Za-z0-9._~-" /* last in a class */
#define SUB_DELIMS    "!$&'()*+,;="
#define PCHAR(M)      "(?:[:@" SUB_DELIMS M UNRESERVED "]|" PCT ")"
#define SEGMENT_NC(M) "(?:[@" SUB_DELIMS M UNRESERVED "]|" PCT ")+"
#define IP_LITERAL    "\\[(?:" IPV6 "|[vV][0-9A-Fa-f]+\\.[:" SUB_DELIMS UNRESERVED "]+)\\]"
#define AUTHORITY(M)                                                                                  \
    "(?:(?:[:" SUB_DELIMS M UNRESERVED "]|" PCT ")*@)?(?:" IP_LITERAL "|(?:[" SUB_DELIMS M UNRESERVED \
    "]|" PCT ")*)(?::\\d*)?"
#define PATH_ABEMPTY(M)  "(?:/" PCHAR(M) "*)*"
#define PATH_ABSOLUTE(M) "/(?:" PCHAR(M) "+(?:/" PCHAR(M) "*)*)?"
#define TAIL(M, P)       "(?:\\?(?:[/?" P "]|" PCHAR(M) ")*)?(?:#(?:[/?]|" PCHAR(M) ")*)?"
#define URI(M, P)                                \
    "[A-Za-z][A-Za-z0-9+.-]*:(?://" AUTHORITY(M) \
        PATH_ABEMPTY(M) "|" PATH_ABSOLUTE(M) "|" PCHAR(M) "+(?:/" PCHAR(M) "*)*|)" TAIL(M, P)
#define RELATIVE(M, P)   \
    "(?://" AUTHORITY(M) \
        PATH_ABEMPTY(M) "|" PATH_ABSOLUTE(M) "|" SEGMENT_NC(M) "(?:/" PCHAR(M) "*)*|)" TAIL(M, P)

/* RFC 6570; ' is a literal by its erratum 6937. Operators that it reserves (= , ! @ |) are left out. */
#define VARSPEC "\\w+(?:\\.\\w+)*(?::[1-9]\\d{0,2}|\\*)?"
#define TEMPLATE \
    "(?:[!#$&-;=?-\\[\\]_a-z~" UCS PRIVATE "]|" PCT "|\\{[+#./;?&]?" VARSPEC "(?:," VARSPEC ")*\\})*"

/* RFC 6901, and its draft for relative ones. */
#define POINTER "(?:/(?:[^~/]|~[01])*)*"

/* RFC 4648; bits that are left over are 0. */
#define B64(C62) "(?:[A-Za-z0-9" C62 "]{4})*"

#define HEX(n)        "[0-9A-Fa-f]{" #n "}"
#define UUID(version) HEX(8) "-" HEX(4) "-" version HEX(3) "-[89ABab]" HEX(3) "-" HEX(12)

static const struct {
    const char *name, *pattern, *also; /* both are matched; also NULL: no more */
} formats[] = {
    {"date-time", DATE "[Tt]" TIME},
    {"date", DATE},
    {"time", TIME},
    {"duration", DURATION},
    {"email", EMAIL, EMAIL_LOCAL},
    {"idn-email", IDN_EMAIL, IDN_EMAIL_LOCAL},
    {"hostname", HOST},
    {"idn-hostname", IDN_HOST},
    {"ipv4", IPV4},
    {"ipv6", IPV6},
    {"uri", URI("", "")},
    {"uri-reference", URI("", "") "|" RELATIVE("", "")},
    {"iri", URI(UCS, PRIVATE)},
    {"iri-reference", URI(UCS, PRIVATE) "|" RELATIVE(UCS, PRIVATE)},
    {"uuid", HEX(8) "-" HEX(4) "-" HEX(4) "-" HEX(4) "-" HEX(12)},
    {"uri-template", TEMPLATE},
    {"json-pointer", POINTER},
    /* jsonschema, which many judge by, wants no digit behind a 0 anywhere. */
    {"relative-json-pointer", "(?:0|[1-9]+0?)(?:#|" POINTER ")"},
    /* OpenAPI's registry and pydantic. */
    {"byte", B64("+/") "(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?"},
    {"base64url", B64("_-") "(?:[A-Za-z0-9_-][AQgw](?:==)?|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]=?)?"},
    {"uuid1", UUID("1")},
    {"uuid3", UUID("3")},
    {"uuid4", UUID("4")},
    {"uuid5", UUID("5")},
};

static mlxr_status whole(mlxr_dfa **out, const char *pattern, const mlxr_lang_limits *limits, mlxr_error *err)
{
    return mlxr_dfa_regex(out, pattern, strlen(pattern), true, limits, err);
}

mlxr_status mlxr_dfa_format(mlxr_dfa **out, const char *format, const mlxr_lang_limits *limits,
                            mlxr_error *err)
{
    mlxr_dfa *d = NULL, *also = NULL;
    mlxr_status st;
    size_t i = 0;

    *out = NULL;
    while (i < MLXR_COUNT(formats) && strcmp(formats[i].name, format) != 0) i++;
    if (i == MLXR_COUNT(formats))
        return mlxr_fail(err, MLXR_E_UNSUPPORTED, "format \"%.80s\": is not supported%s", format,
                         strcmp(format, "regex") == 0 ? ": expressions nest, which no automaton follows"
                                                      : "");
    if (!formats[i].also) {
        st = whole(out, formats[i].pattern, limits, err);
        goto done;
    }
    if ((st = whole(&d, formats[i].pattern, limits, err)) != MLXR_OK) goto done;
    if ((st = whole(&also, formats[i].also, limits, err)) != MLXR_OK) goto done;
    st = mlxr_dfa_intersect(out, d, also, limits, err);
done:
    mlxr_dfa_unref(d);
    mlxr_dfa_unref(also);
    if (st != MLXR_OK) mlxr_error_prefix(err, "format \"%s\": ", format);
    return st;
}
