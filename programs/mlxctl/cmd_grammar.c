/* mlxctl grammar: what a schema, a grammar or a regular expression lets an answer be, without a model. check: instances
 * are held against it; sample: texts of it. */
#include <stdio.h>

#include "base/fs.h"
#include "engine/grammar/schema.h"
#include "jsonl.h"

enum { FILE_MOST = 64 << 20 };

struct grammar_args {
    const char *schema; /* a file's path */
    const char *gbnf;   /* likewise */
    const char *regex;
};

/* ---- the grammar ---- */

static mlxr_status open_grammar(mlxr_grammar **out, const struct grammar_args *args, mlxr_error *err)
{
    const mlxr_grammar_limits limits = mlxr_grammar_limits_default();
    const mlxr_schema_options options = mlxr_schema_options_default();
    const char *path = args->schema ? args->schema : args->gbnf;
    mlxr_buf text = {0};
    mlxr_status st;

    *out = NULL;
    if (args->regex) return mlxr_grammar_from_regex(out, args->regex, strlen(args->regex), &limits, err);
    st = mlxr_file_read(&text, path, FILE_MOST, err);
    if (st == MLXR_OK && args->schema)
        st = mlxr_grammar_from_schema(out, text.data ? text.data : "", text.len, "schema", &options, &limits,
                                      err);
    else if (st == MLXR_OK)
        st = mlxr_grammar_from_gbnf(out, text.data ? text.data : "", text.len, path, &limits, err);
    mlxr_buf_clear(&text);
    return st;
}

/* Why there is no grammar: for who reads answers, and for who reads errors. */
static int fail_grammar(const char *program, const mlxr_error *err)
{
    mlxr_buf line = {0};

    mlxr_buf_str(&line, "{\"error\": ");
    mlxr_json_escape(&line, err->message, mlxr_utf8_valid(err->message, strlen(err->message)));
    mlxr_buf_str(&line, "}\n");
    if (!line.failed) fwrite(line.data, 1, line.len, stdout);
    fflush(stdout);
    mlxr_buf_clear(&line);
    return cli_fail(program, err);
}

/* ---- check ---- */

struct check {
    mlxr_schema_checker *checker;
    bool texts; /* a line is a JSON string, whose text is checked */
};

static mlxr_status answer(void *ud, const char *line, size_t n_line, mlxr_buf *out, mlxr_error *err)
{
    struct check *c = ud;
    mlxr_schema_verdict verdict;
    mlxr_value_doc doc;
    mlxr_status st = mlxr_value_parse(&doc, line, n_line, "instance", err);

    if (st != MLXR_OK) return st;
    if (!c->texts)
        st = mlxr_schema_check(&verdict, c->checker, doc.root, err);
    else if (doc.root->type == MLXR_VALUE_STRING)
        st = mlxr_schema_check_text(&verdict, c->checker, doc.root->text, doc.root->n_text, err);
    else
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "instance: not a JSON string");
    if (st == MLXR_OK && verdict.valid) {
        mlxr_buf_str(out, "{\"valid\": true}");
    } else if (st == MLXR_OK) {
        mlxr_buf_str(out, "{\"valid\": false, \"at\": ");
        if (c->texts)
            mlxr_buf_str(out, verdict.at);
        else
            mlxr_json_escape(out, verdict.at, strlen(verdict.at));
        mlxr_buf_str(out, ", \"expected\": ");
        mlxr_json_escape(out, verdict.expected, strlen(verdict.expected));
        mlxr_buf_char(out, '}');
    }
    mlxr_value_clear(&doc);
    return st;
}

static int run_check(const char *program, mlxr_grammar *g, bool texts)
{
    struct check c = {.texts = texts};
    mlxr_error err = {0};
    int code;

    if (mlxr_schema_checker_create(&c.checker, g, &err) != MLXR_OK) return cli_fail(program, &err);
    code = jsonl_serve(program, answer, &c, NULL);
    mlxr_schema_checker_free(c.checker);
    return code;
}

/* ---- sample ----
 *
 * A walk over the bytes that may come next. Past a length drawn for each text it goes for the end: closing quotes and brackets
 * first, short values before such as nest. JSON gets no white space where it can do without. */

enum { TEXT_MOST = 1 << 14, TRIES = 30 };

static uint64_t draw(uint64_t *rng)
{
    uint64_t x = *rng += 0x9e3779b97f4a7c15u; /* splitmix64 */

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

struct walk {
    const mlxr_matcher *m;
    uint64_t *rng;
    bool json;
    bool in_string, escaped; /* JSON */
    size_t n, wanted;        /* bytes written, and about how many are wanted */
};

/* How likely the byte is, in parts. */
static unsigned weight(const struct walk *w, int byte)
{
    bool late = w->n >= w->wanted;

    if (w->json && w->in_string) {
        if (w->escaped) return byte == 'u' ? 2 : 12;
        if (byte == '"') return late ? 200000 : 1400;
        if (byte == '\\') return 200;
        return byte >= 0x80 ? 3 : 100;
    }
    if (w->json) {
        if (late) {
            static const char *const best[] = {"}]", ",:", "\"", "tfn", "0123456789", "-.", "eE+", "[{"};
            unsigned k = 10000000;
            for (size_t i = 0; i < MLXR_COUNT(best); i++, k /= 10)
                if (strchr(best[i], byte)) return k + 1;
            return 1;
        }
        if (byte == '}' || byte == ']') return 60;
        if (byte == '.' || byte == 'e' || byte == 'E') return 20;
        return byte >= '0' && byte <= '9' ? 40 : 100;
    }
    return byte >= 0x80 ? 3 : byte < 0x20 || byte == 0x7f ? 10 : 100;
}

/* The next byte, or -1 at the end. */
static int choose(struct walk *w)
{
    bool next[256];
    uint64_t total = 0, at;
    size_t n_next = 0, n_space = 0;

    mlxr_matcher_next_bytes(next, w->m);
    for (int b = 0; b < 256; b++) {
        n_next += next[b];
        n_space += next[b] && (b == ' ' || b == '\n' || b == '\r' || b == '\t');
    }
    if (n_next == 0) return -1;
    if (mlxr_matcher_may_end(w->m) && (w->n >= w->wanted || draw(w->rng) % 8 == 0)) return -1;
    if (w->json && !w->in_string && n_space < n_next)
        next[' '] = next['\n'] = next['\r'] = next['\t'] = false;
    for (int b = 0; b < 256; b++)
        if (next[b]) total += weight(w, b);
    at = draw(w->rng) % total;
    for (int b = 0; b < 256; b++) {
        unsigned k = next[b] ? weight(w, b) : 0;
        if (at < k) return b;
        at -= k;
    }
    return -1;
}

/* One text; *whole false: it has not come to an end. */
static mlxr_status sample(mlxr_buf *out, bool *whole, mlxr_masker *k, bool json, uint64_t *rng,
                          mlxr_error *err)
{
    struct walk w = {.rng = rng, .json = json, .wanted = (size_t)1 << draw(rng) % 9};
    mlxr_matcher *m;
    mlxr_status st = mlxr_matcher_create(&m, k, err);
    int byte;

    *whole = false;
    if (st != MLXR_OK) return st;
    w.m = m;
    out->len = 0;
    while (st == MLXR_OK && w.n < TEXT_MOST && (byte = choose(&w)) >= 0) {
        char b = (char)byte;
        size_t n_taken;
        st = mlxr_matcher_push(&n_taken, m, &b, 1, err);
        mlxr_buf_char(out, b);
        w.n++;
        if (w.escaped)
            w.escaped = false;
        else if (w.in_string && b == '\\')
            w.escaped = true;
        else if (b == '"')
            w.in_string = !w.in_string;
    }
    *whole = mlxr_matcher_may_end(m) && w.n < TEXT_MOST;
    if (st == MLXR_OK) st = mlxr_buf_check(out, "sample", err);
    mlxr_matcher_free(m);
    return st;
}

static int run_sample(const char *program, mlxr_grammar *g, bool json, int64_t n, int64_t seed)
{
    mlxr_buf text = {0}, line = {0};
    uint64_t rng = (uint64_t)seed * 0x2545f4914f6cdd1du;
    mlxr_masker *k = NULL;
    mlxr_error err = {0};
    mlxr_status st = mlxr_masker_create(&k, g, NULL, &err);

    for (int64_t i = 0; st == MLXR_OK && i < n; i++) {
        bool whole = false;
        for (int tries = 0; st == MLXR_OK && !whole && tries < TRIES; tries++)
            st = sample(&text, &whole, k, json, &rng, &err);
        if (st == MLXR_OK && !whole)
            st = mlxr_fail(&err, MLXR_E_LIMIT, "no text of less than %d bytes was found in %d tries",
                           TEXT_MOST, TRIES);
        if (st != MLXR_OK) break;
        line.len = 0;
        if (json) { /* a line end is white space between two tokens */
            for (size_t at = 0; at < text.len; at++)
                mlxr_buf_char(&line, text.data[at] == '\n' || text.data[at] == '\r' ? ' ' : text.data[at]);
        } else {
            mlxr_json_escape(&line, text.len ? text.data : "", text.len);
        }
        mlxr_buf_char(&line, '\n');
        st = mlxr_buf_check(&line, "sample", &err);
        if (st == MLXR_OK && fwrite(line.data, 1, line.len, stdout) != line.len)
            st = mlxr_fail(&err, MLXR_E_IO, "cannot write to standard output");
    }
    if (st == MLXR_OK && fflush(stdout) != 0)
        st = mlxr_fail(&err, MLXR_E_IO, "cannot write to standard output");
    mlxr_masker_free(k);
    mlxr_buf_clear(&text);
    mlxr_buf_clear(&line);
    return st == MLXR_OK ? 0 : cli_fail(program, &err);
}

int cmd_grammar(int argc, char **argv)
{
    const char *args[2];
    struct grammar_args what = {0};
    int64_t n = 1, seed = 0;
    const struct cli_option options[] = {
        {"gbnf", CLI_STRING, "FILE", &what.gbnf, 0, 0, "a grammar in GBNF, llama.cpp's notation"},
        {"regex", CLI_STRING, "PATTERN", &what.regex, 0, 0,
         "a regular expression that the whole text matches"},
        {"n", CLI_INT, "N", &n, 1, 1e9, "sample: how many texts (default: 1)"},
        {"seed", CLI_INT, "S", &seed, 0, 1e15, "sample: which ones (default: 0)"},
    };
    static const struct cli_example examples[] = {
        {"echo '{\"name\": \"Ada\", \"age\": 36}' | mlxctl grammar check schema.json",
         "could an answer be this?", NULL},
        {"mlxctl grammar sample schema.json -n 3 --seed 1", "what the schema leaves open", NULL},
        {"mlxctl grammar sample --regex '[A-Z]{3}-[0-9]{2,4}'", "a text of a regular expression", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl grammar",
        .synopsis = "check|sample SCHEMA.json|--gbnf FILE|--regex PATTERN [-n N] [--seed S]",
        .summary =
            "check: reads a JSON instance a line and answers each with {\"valid\": true} or {\"valid\": "
            "false,\n"
            "\"at\": POINTER, \"expected\": WORDS}: could an answer that is held to the schema be this "
            "value,\n"
            "the order of members aside? A line that is no JSON gets {\"error\": ...}. With --gbnf and\n"
            "--regex each line is a JSON string, whose text is checked; \"at\" is how many of its "
            "characters\n"
            "fit. What cannot be enforced or is wrong: one line {\"error\": ...} and exit code 1.\n\n"
            "sample: writes random texts of it, one a line; those of --gbnf and --regex as JSON strings.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "check|sample file",
    };
    mlxr_grammar *g = NULL;
    mlxr_error err = {0};
    const char *program;
    size_t n_args;
    bool check;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "check or sample is needed");
    check = strcmp(args[0], "check") == 0;
    if (!check && strcmp(args[0], "sample") != 0)
        return cli_usage(&cli, "there is no \"grammar %s\"", args[0]);
    what.schema = n_args > 1 ? args[1] : NULL;
    if ((what.schema != NULL) + (what.gbnf != NULL) + (what.regex != NULL) != 1)
        return cli_usage(&cli, "one of SCHEMA.json, --gbnf and --regex is needed");
    program = check ? "mlxctl grammar check" : "mlxctl grammar sample";
    if (open_grammar(&g, &what, &err) != MLXR_OK) return fail_grammar(program, &err);
    code = check ? run_check(program, g, !what.schema) : run_sample(program, g, what.schema, n, seed);
    mlxr_grammar_unref(g);
    return code;
}
