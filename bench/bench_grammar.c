/* What structured answers cost for each token: makes JSON grammars of many shapes and texts that fit them, walks the texts' tokens, and
 * times the mask and the acceptance of each, with all caches empty at the beginning of every grammar and once more with them
 * warm. One line of JSON.
 *
 *   bench_grammar TOKENIZER [GRAMMARS [SEED]] */
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar/grammar.h"
#include "text/tokenizer/token_bytes.h"

static mlxr_error err;
static uint64_t rng = 88172645463325252u;

static uint32_t draw(uint32_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 16) % n);
}

static void must(mlxr_status st)
{
    if (st == MLXR_OK) return;
    fprintf(stderr, "bench_grammar: %s\n", err.message);
    exit(1);
}

static const char *const words[] = {"name",    "age",     "city",   "the",         "quick",   "brown",
                                    "status",  "value",   "street", "id",          "country", "email",
                                    "of",      "and",     "zip",    "description", "title",   "tags",
                                    "created", "updated", "user",   "price",       "items",   "count"};
enum { N_WORDS = sizeof words / sizeof *words };

/* ---- shapes: a grammar and a text of it at once ---- */

typedef struct maker {
    mlxr_grammar_builder *b;
    mlxr_buf *text;
    int depth;
    mlxr_rule any_value, any_string;
} maker;

#define T(m, s) mlxr_gb_text((m)->b, s, strlen(s))
static mlxr_expr seq2(maker *m, mlxr_expr a, mlxr_expr b)
{
    return mlxr_gb_seq(m->b, (mlxr_expr[]){a, b}, 2);
}

static mlxr_expr named(maker *m, const char *name, mlxr_expr body)
{
    mlxr_rule r = mlxr_gb_rule(m->b, name);
    mlxr_gb_define(m->b, r, body);
    return mlxr_gb_call(m->b, r);
}

static mlxr_expr ws(maker *m)
{
    static const char pattern[] = "( |\n[ \t]{0,20})?";
    mlxr_dfa *d;
    must(mlxr_dfa_regex(&d, pattern, strlen(pattern), true, NULL, &err));
    return mlxr_gb_dfa(m->b, d);
}

static void write_words(maker *m, uint32_t n)
{
    if (!m->text) return;
    for (uint32_t i = 0; i < n; i++) mlxr_buf_printf(m->text, "%s%s", i ? " " : "", words[draw(N_WORDS)]);
}

static void out(maker *m, const char *s)
{
    if (m->text) mlxr_buf_str(m->text, s);
}

static mlxr_expr make_value(maker *m);

static mlxr_expr make_object(maker *m)
{
    uint32_t n = 1 + draw(7), first = draw(N_WORDS);
    bool more = draw(3) == 0;
    mlxr_expr e = T(m, "{");
    mlxr_dfa *d, *any, *names;
    mlxr_text texts[8];
    out(m, "{");
    for (uint32_t i = 0; i < n; i++) {
        char key[64];
        bool optional = i > 0 && draw(3) == 0, there = !optional || draw(2);
        mlxr_buf *text = m->text;
        mlxr_expr x;
        texts[i] = (mlxr_text){words[(first + i) % N_WORDS], strlen(words[(first + i) % N_WORDS])};
        snprintf(key, sizeof key, "%s\"%s\":", i ? "," : "", texts[i].bytes);
        if (!there) m->text = NULL;
        if (m->text) mlxr_buf_printf(m->text, "%s\"%s\": ", i ? ", " : "", texts[i].bytes);
        x = i ? seq2(m, T(m, ","), seq2(m, ws(m), T(m, key + 1))) : seq2(m, ws(m), T(m, key));
        x = seq2(m, x, seq2(m, ws(m), make_value(m)));
        m->text = text;
        e = seq2(m, e, optional ? mlxr_gb_optional(m->b, x) : x);
    }
    if (more) {
        mlxr_expr x;
        must(mlxr_dfa_any(&any, &err));
        must(mlxr_dfa_literals(&names, texts, n, &err));
        must(mlxr_dfa_minus(&d, any, names, NULL, &err));
        mlxr_dfa_unref(any);
        any = d;
        must(mlxr_dfa_json_string(&d, any, NULL, &err));
        mlxr_dfa_unref(any);
        mlxr_dfa_unref(names);
        x = seq2(m, seq2(m, seq2(m, T(m, ","), ws(m)), T(m, "\"")), mlxr_gb_unique(m->b, d));
        x = seq2(m, seq2(m, seq2(m, x, T(m, "\":")), ws(m)), mlxr_gb_call(m->b, m->any_value));
        e = seq2(m, e, mlxr_gb_repeat(m->b, x, 0, SIZE_MAX));
        for (uint32_t i = 0; m->text && i < 3; i++)
            mlxr_buf_printf(m->text, ", \"extra %s %u\": [\"%s %s\", %u]", words[draw(N_WORDS)], i,
                            words[draw(N_WORDS)], words[draw(N_WORDS)], draw(1000));
    }
    out(m, "}");
    return named(m, "object", seq2(m, seq2(m, e, ws(m)), T(m, "}")));
}

static mlxr_expr make_array(maker *m)
{
    uint32_t n = draw(5);
    mlxr_buf *text = m->text;
    mlxr_expr item, items;
    mlxr_rule r = mlxr_gb_rule(m->b, "item");
    out(m, "[");
    if (!n) m->text = NULL;
    item = make_value(m);
    m->text = text;
    mlxr_gb_define(m->b, r, item);
    items = mlxr_gb_repeat(m->b, seq2(m, seq2(m, T(m, ","), ws(m)), mlxr_gb_call(m->b, r)), 0,
                           draw(2) ? SIZE_MAX : 1000);
    items = mlxr_gb_optional(m->b, seq2(m, mlxr_gb_call(m->b, r), items));
    out(m, "]");
    return named(m, "array", seq2(m, seq2(m, T(m, "["), seq2(m, ws(m), items)), seq2(m, ws(m), T(m, "]"))));
}

static mlxr_expr dfa_of(maker *m, const char *pattern)
{
    mlxr_dfa *d;
    must(mlxr_dfa_regex(&d, pattern, strlen(pattern), true, NULL, &err));
    return mlxr_gb_dfa(m->b, d);
}

static mlxr_expr make_value(maker *m)
{
    mlxr_expr e;
    uint32_t kind = draw(m->depth > 3 ? 7 : 11);
    m->depth++;
    switch (kind) {
    case 0:
    case 1:
    case 2:
        out(m, "\"");
        write_words(m, 1 + draw(12));
        out(m, "\"");
        e = seq2(
            m, T(m, "\""),
            seq2(m,
                 draw(2) ? mlxr_gb_chars(m->b, 0, SIZE_MAX) : mlxr_gb_chars(m->b, draw(2), 200 + draw(2000)),
                 T(m, "\"")));
        break;
    case 3:
        if (m->text) mlxr_buf_printf(m->text, "%u", draw(100000));
        e = dfa_of(m, "-?(0|[1-9][0-9]{0,14})");
        break;
    case 4:
        if (m->text) mlxr_buf_printf(m->text, "%u.%u", draw(1000), draw(100));
        e = dfa_of(m, "-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?");
        break;
    case 5: {
        uint32_t i = draw(N_WORDS);
        mlxr_expr alt[4];
        for (uint32_t k = 0; k < 4; k++) {
            char s[64];
            snprintf(s, sizeof s, "\"%s\"", words[(i + k) % N_WORDS]);
            alt[k] = T(m, s);
            if (k == 2) out(m, s);
        }
        e = mlxr_gb_alt(m->b, alt, 4);
        break;
    }
    case 6:
        if (m->text) mlxr_buf_printf(m->text, "\"20%02u-0%u-1%u\"", draw(100), 1 + draw(9), draw(10));
        e = draw(2) ? dfa_of(m, "\"[0-9]{4}-[0-9]{2}-[0-9]{2}\"") : dfa_of(m, "\"[-0-9a-z ]*\"");
        break;
    case 7: e = make_array(m); break;
    default: e = make_object(m); break;
    }
    m->depth--;
    return e;
}

static void make_any(maker *m)
{
    mlxr_expr string = seq2(m, T(m, "\""), seq2(m, mlxr_gb_chars(m->b, 0, SIZE_MAX), T(m, "\"")));
    mlxr_expr member, item, alt[5];
    m->any_string = mlxr_gb_rule(m->b, "string");
    m->any_value = mlxr_gb_rule(m->b, "value");
    mlxr_gb_define(m->b, m->any_string, string);
    member = seq2(m, mlxr_gb_call(m->b, m->any_string),
                  seq2(m, T(m, ":"), seq2(m, ws(m), mlxr_gb_call(m->b, m->any_value))));
    item = mlxr_gb_call(m->b, m->any_value);
    {
        mlxr_rule mem = mlxr_gb_rule(m->b, "member"), it = mlxr_gb_rule(m->b, "item");
        mlxr_gb_define(m->b, mem, member);
        mlxr_gb_define(m->b, it, item);
        alt[0] = seq2(
            m, T(m, "{"),
            seq2(m,
                 mlxr_gb_optional(
                     m->b,
                     seq2(m, mlxr_gb_call(m->b, mem),
                          mlxr_gb_repeat(m->b, seq2(m, T(m, ","), seq2(m, ws(m), mlxr_gb_call(m->b, mem))), 0,
                                         SIZE_MAX))),
                 T(m, "}")));
        alt[1] = seq2(
            m, T(m, "["),
            seq2(m,
                 mlxr_gb_optional(
                     m->b,
                     seq2(m, mlxr_gb_call(m->b, it),
                          mlxr_gb_repeat(m->b, seq2(m, T(m, ","), seq2(m, ws(m), mlxr_gb_call(m->b, it))), 0,
                                         SIZE_MAX))),
                 T(m, "]")));
    }
    alt[2] = mlxr_gb_call(m->b, m->any_string);
    alt[3] = dfa_of(m, "-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?");
    alt[4] = dfa_of(m, "true|false|null");
    mlxr_gb_define(m->b, m->any_value, mlxr_gb_alt(m->b, alt, 5));
}

/* ---- measuring ---- */

typedef struct times {
    uint64_t *ns;
    size_t n, cap;
} times;

static void note(times *t, uint64_t ns)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 1024;
        t->ns = realloc(t->ns, t->cap * sizeof *t->ns);
        if (!t->ns) exit(1);
    }
    t->ns[t->n++] = ns;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double at(const times *t, double q)
{
    return t->n ? (double)t->ns[(size_t)((double)(t->n - 1) * q)] / 1000 : 0;
}

static void tell(const char *name, times *t)
{
    double sum = 0;
    qsort(t->ns, t->n, sizeof *t->ns, by_value);
    for (size_t i = 0; i < t->n; i++) sum += (double)t->ns[i];
    printf("\"%s\": {\"n\": %zu, \"mean_us\": %.1f, \"median_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, "
           "\"max_us\": %.1f}",
           name, t->n, t->n ? sum / 1000 / (double)t->n : 0, at(t, 0.5), at(t, 0.9), at(t, 0.99), at(t, 1));
}

int main(int argc, char **argv)
{
    int n_grammars = argc > 2 ? atoi(argv[2]) : 100;
    bool verbose = getenv("BENCH_VERBOSE") != NULL;
    mlxr_tokenizer *tok;
    mlxr_vocabulary *v;
    mlxr_vocabulary_params p = {0};
    times cold = {0}, warm = {0}, finish = {0}, accept = {0};
    uint64_t from, made;
    size_t n_refused = 0, max_bytes = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_grammar TOKENIZER [GRAMMARS [SEED]]\n");
        return 2;
    }
    if (argc > 3) rng ^= strtoull(argv[3], NULL, 10) * 0x9e3779b97f4a7c15u;
    must(mlxr_tokenizer_open(&tok, argv[1], &err));
    p.vocab_size = mlxr_tokenizer_vocab_size(tok);
    p.bytes = tok_token_bytes;
    p.ud = tok;
    p.strips_first_space = tok_strips_first_space(tok);
    from = mlxr_now_ns();
    must(mlxr_vocabulary_create(&v, &p, &err));
    made = mlxr_now_ns() - from;
    for (int i = 0; i < n_grammars; i++) {
        mlxr_buf text = {0};
        maker m = {.text = &text};
        mlxr_rule root;
        mlxr_grammar *g;
        mlxr_masker *k;
        int32_t *ids;
        size_t n_ids;
        must(mlxr_grammar_builder_create(&m.b, NULL, &err));
        root = mlxr_gb_rule(m.b, "root");
        make_any(&m);
        mlxr_gb_define(m.b, root, make_object(&m));
        from = mlxr_now_ns();
        must(mlxr_grammar_finish(&g, m.b, root, &err));
        note(&finish, mlxr_now_ns() - from);
        mlxr_grammar_builder_free(m.b);
        must(mlxr_tokenizer_encode(&ids, &n_ids, tok, text.data, text.len, false, &err));
        must(mlxr_masker_create(&k, g, v, &err));
        for (int round = 0; round < 2; round++) {
            mlxr_matcher *matcher;
            must(mlxr_matcher_create(&matcher, k, &err));
            for (size_t j = 0; j < n_ids; j++) {
                const uint32_t *mask;
                uint64_t mid, end;
                bool good;
                from = mlxr_now_ns();
                must(mlxr_matcher_mask(&mask, matcher, &err));
                mid = mlxr_now_ns();
                good = mask[ids[j] / 32] >> (ids[j] % 32) & 1;
                if (!good || mlxr_matcher_accept(matcher, ids[j], &err) != MLXR_OK) {
                    if (verbose) fprintf(stderr, "refused: %d at %zu in %.400s\n", ids[j], j, text.data);
                    n_refused++;
                    break;
                }
                end = mlxr_now_ns();
                note(round ? &warm : &cold, end - from);
                note(&accept, end - mid);
                if (verbose && !round && end - from > 500000) {
                    mlxr_buf b = {0};
                    size_t n = 0;
                    for (size_t q = j > 6 ? j - 6 : 0; q < j; q++) tok_token_bytes(tok, ids[q], &b);
                    for (size_t q = 0; q < p.vocab_size; q++) n += mask[q / 32] >> (q % 32) & 1;
                    fprintf(stderr, "%7.0f us, %zu allowed, behind %s\n", (double)(end - from) / 1000, n,
                            b.data ? b.data : "");
                    mlxr_buf_clear(&b);
                }
            }
            mlxr_matcher_free(matcher);
        }
        if (mlxr_masker_bytes(k) > max_bytes) max_bytes = mlxr_masker_bytes(k);
        mlxr_masker_free(k);
        mlxr_grammar_unref(g);
        mlxr_free(ids);
        mlxr_buf_clear(&text);
    }
    printf("{\"vocab_size\": %zu, \"vocabulary_ms\": %.1f, \"grammars\": %d, \"refused\": %zu, "
           "\"masker_max_mib\": %.1f, ",
           p.vocab_size, (double)made / 1e6, n_grammars, n_refused, (double)max_bytes / (1 << 20));
    tell("cold", &cold);
    printf(", ");
    tell("warm", &warm);
    printf(", ");
    tell("accept", &accept);
    printf(", ");
    tell("finish", &finish);
    printf("}\n");
    free(cold.ns);
    free(warm.ns);
    free(accept.ns);
    free(finish.ns);
    mlxr_vocabulary_free(v);
    mlxr_tokenizer_close(tok);
    return 0;
}
