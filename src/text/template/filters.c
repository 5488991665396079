/* The table of filters. */
#include "text/template/filters.h"

/* by name: required, all, flags, parameters after the piped value */
const builtin filter_table[] = {
    {"abs", f_abs, 0, 0, BIND_POSONLY, {0}},
    {"attr", f_attr, 1, 1, 0, {"name"}},
    {"batch", f_batch, 1, 2, 0, {"linecount", "fill_with"}},
    {"capitalize", f_capitalize, 0, 0, 0, {0}},
    {"center", f_center, 0, 1, 0, {"width"}},
    {"count", f_length, 0, 0, BIND_POSONLY, {0}},
    {"d", f_default, 0, 2, 0, {"default_value", "boolean"}},
    {"default", f_default, 0, 2, 0, {"default_value", "boolean"}},
    {"dictsort", f_dictsort, 0, 3, 0, {"case_sensitive", "by", "reverse"}},
    {"e", f_escape, 0, 0, BIND_POSONLY, {0}},
    {"escape", f_escape, 0, 0, BIND_POSONLY, {0}},
    {"filesizeformat", f_filesizeformat, 0, 1, 0, {"binary"}},
    {"first", f_first, 0, 0, 0, {0}},
    {"float", f_float, 0, 1, 0, {"default"}},
    {"forceescape", f_forceescape, 0, 0, 0, {0}},
    {"format", f_format, 0, 0, BIND_VARARGS, {0}},
    {"groupby", f_groupby, 1, 3, 0, {"attribute", "default", "case_sensitive"}},
    {"indent", f_indent, 0, 3, 0, {"width", "first", "blank"}},
    {"int", f_int, 0, 2, 0, {"default", "base"}},
    {"items", f_items, 0, 0, 0, {0}},
    {"join", f_join, 0, 2, 0, {"d", "attribute"}},
    {"last", f_last, 0, 0, 0, {0}},
    {"length", f_length, 0, 0, BIND_POSONLY, {0}},
    {"list", f_list, 0, 0, 0, {0}},
    {"lower", f_lower, 0, 0, 0, {0}},
    {"map", f_map, 0, 0, BIND_VARARGS, {0}},
    {"max", f_max, 0, 2, 0, {"case_sensitive", "attribute"}},
    {"min", f_min, 0, 2, 0, {"case_sensitive", "attribute"}},
    {"pprint", f_pprint, 0, 0, 0, {0}},
    {"random", f_random, 0, 0, 0, {0}},
    {"reject", f_reject, 0, 0, BIND_VARARGS, {0}},
    {"rejectattr", f_rejectattr, 0, 0, BIND_VARARGS, {0}},
    {"replace", f_replace, 2, 3, 0, {"old", "new", "count"}},
    {"reverse", f_reverse, 0, 0, 0, {0}},
    {"round", f_round, 0, 2, 0, {"precision", "method"}},
    {"safe", f_safe, 0, 0, 0, {0}},
    {"select", f_select, 0, 0, BIND_VARARGS, {0}},
    {"selectattr", f_selectattr, 0, 0, BIND_VARARGS, {0}},
    {"slice", f_slice, 1, 2, 0, {"slices", "fill_with"}},
    {"sort", f_sort, 0, 3, 0, {"reverse", "case_sensitive", "attribute"}},
    {"string", f_string, 0, 0, BIND_POSONLY, {0}},
    {"striptags", f_striptags, 0, 0, 0, {0}},
    {"sum", f_sum, 0, 2, 0, {"attribute", "start"}},
    {"title", f_title, 0, 0, 0, {0}},
    {"tojson", f_tojson, 0, 4, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {"trim", f_trim, 0, 1, 0, {"chars"}},
    {"truncate", f_truncate, 0, 4, 0, {"length", "killwords", "end", "leeway"}},
    {"unique", f_unique, 0, 2, 0, {"case_sensitive", "attribute"}},
    {"upper", f_upper, 0, 0, 0, {0}},
    {"urlencode", f_urlencode, 0, 0, 0, {0}},
    {"urlize", f_urlize, 0, 5, 0, {"trim_url_limit", "nofollow", "target", "rel", "extra_schemes"}},
    {"wordcount", f_wordcount, 0, 0, 0, {0}},
    {"wordwrap", f_wordwrap, 0, 4, 0, {"width", "break_long_words", "wrapstring", "break_on_hyphens"}},
    {"xmlattr", f_xmlattr, 0, 1, 0, {"autospace"}},
};
const size_t n_filters = MLXR_COUNT(filter_table);

const builtin *filter_find(const char *name, size_t n)
{
    for (size_t i = 0; i < n_filters; i++)
        if (strlen(filter_table[i].name) == n && memcmp(filter_table[i].name, name, n) == 0)
            return &filter_table[i];
    return NULL;
}

val call_filter_named(rt *r, val name, val x, const args *a)
{
    const builtin *fn;
    uint64_t h;
    sb b = {0};
    if (!hash_value(r, name, &h)) return v_err();
    fn = name.type == T_STR ? filter_find(name.s->s, name.s->n) : NULL;
    if (fn) return call_builtin(r, fn, x, a);
    if (!write_repr(r, &b, name)) return v_err();
    return raise(r, EXC_RUNTIME, "No filter named %.*s.", (int)(b.n < 200 ? b.n : 200), b.p);
}
