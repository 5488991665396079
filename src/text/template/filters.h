/* The functions behind the filters' names: filter_seq.c, filter_text.c, filter_url.c, pprint.c. */
#ifndef MLXR_TEMPLATE_FILTERS_H
#define MLXR_TEMPLATE_FILTERS_H

#include "text/template/template.h"

#define FILTER(fn_name) val fn_name(rt *r, val self, val *a, const args *raw)
FILTER(f_abs);
FILTER(f_attr);
FILTER(f_batch);
FILTER(f_capitalize);
FILTER(f_center);
FILTER(f_default);
FILTER(f_dictsort);
FILTER(f_escape);
FILTER(f_filesizeformat);
FILTER(f_first);
FILTER(f_float);
FILTER(f_forceescape);
FILTER(f_format);
FILTER(f_groupby);
FILTER(f_indent);
FILTER(f_int);
FILTER(f_items);
FILTER(f_join);
FILTER(f_last);
FILTER(f_length);
FILTER(f_list);
FILTER(f_lower);
FILTER(f_map);
FILTER(f_max);
FILTER(f_min);
FILTER(f_pprint);
FILTER(f_random);
FILTER(f_reject);
FILTER(f_rejectattr);
FILTER(f_replace);
FILTER(f_reverse);
FILTER(f_round);
FILTER(f_safe);
FILTER(f_select);
FILTER(f_selectattr);
FILTER(f_slice);
FILTER(f_sort);
FILTER(f_string);
FILTER(f_striptags);
FILTER(f_sum);
FILTER(f_title);
FILTER(f_tojson);
FILTER(f_trim);
FILTER(f_truncate);
FILTER(f_unique);
FILTER(f_upper);
FILTER(f_urlencode);
FILTER(f_urlize);
FILTER(f_wordcount);
FILTER(f_wordwrap);
FILTER(f_xmlattr);
#undef FILTER

/* html.unescape */
val html_unescape(rt *r, const str *s);

#endif
