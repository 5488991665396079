/* The corpus of schemas (the .jsonl files of schemas, see schemas/README.md): no rejected instance can be written, every accepted one can, and what
 * is refused is what exceptions.txt says.
 *
 * usage: test_schema_corpus [--write FILE]    writes the exceptions as they are now, for a person to read and keep */
#include "test.h"

#include "base/fs.h"
#include "engine/grammar/schema.h"

static const char *write_to;
static mlxr_error err;

typedef struct corpus {
    mlxr_buf exceptions; /* the file: lines "refused\tNAME\tREASON", "narrower\tNAME\tINSTANCE" */
    mlxr_strtab known;   /* a line's first two or three fields to whether it has come up */
    FILE *out;
    size_t n_schemas, n_refused, n_empty, n_accepted, n_rejected, n_narrower, n_wrong;
    size_t n_listed, n_listed_refused;
    uint64_t compile_ns, worst_ns, check_ns;
    char worst[120]; /* the name of the one that took longest */
} corpus;

static void wrong(corpus *c, const char *name, const char *what, const char *text)
{
    c->n_wrong++;
    print_error("%s: %s: %s\n", name, what, text);
}

/* Whether an exception is one that is known. */
static bool is_known(corpus *c, const char *kind, const char *name, const char *more)
{
    mlxr_buf key = {0};
    bool known;

    mlxr_buf_printf(&key, "%s\t%s", kind, name);
    if (more) mlxr_buf_printf(&key, "\t%s", more);
    known = mlxr_strtab_get(&c->known, key.data, key.len) != SIZE_MAX;
    if (known) {
        /* The key that stays is the one in the file. */
        mlxr_strtab_put(&c->known, key.data, key.len, 1, NULL);
    }
    mlxr_buf_clear(&key);
    return known;
}

static void read_exceptions(corpus *c)
{
    char *line, *next;

    assert_ok(mlxr_file_read(&c->exceptions, MLXR_TEST_DIR "/schemas/exceptions.txt", 1 << 20, &err), &err);
    if (!c->exceptions.data) return;
    for (line = c->exceptions.data; *line; line = next) {
        size_t n = strcspn(line, "\n"), n_key;
        next = line + n + (line[n] == '\n');
        line[n] = '\0';
        if (n == 0 || line[0] == '#') continue;
        n_key = n;
        if (strncmp(line, "refused\t", 8) == 0) n_key = 8 + strcspn(line + 8, "\t");
        assert_true(mlxr_strtab_put(&c->known, line, n_key, 0, NULL));
    }
}

static mlxr_status compile(mlxr_grammar **out, const mlxr_value *schema)
{
    const mlxr_schema_options options = mlxr_schema_options_default();
    mlxr_grammar_builder *b;
    mlxr_rule root;
    mlxr_status st;

    *out = NULL;
    assert_ok(mlxr_grammar_builder_create(&b, NULL, &err), &err);
    st = mlxr_gb_schema(&root, b, schema, "schema", &options, &err);
    if (st == MLXR_OK) st = mlxr_grammar_finish(out, b, root, &err);
    mlxr_grammar_builder_free(b);
    return st;
}

static void check_instances(corpus *c, const char *name, mlxr_schema_checker *k, const mlxr_value *list,
                            bool accepted)
{
    for (size_t i = 0; i < list->n; i++) {
        mlxr_schema_verdict v;
        mlxr_buf text = {0};
        uint64_t from = mlxr_now_ns();
        mlxr_status st = mlxr_schema_check(&v, k, list->items[i], &err);
        c->check_ns += mlxr_now_ns() - from;
        mlxr_value_write(&text, list->items[i]);
        if (st != MLXR_OK) {
            wrong(c, name, "cannot be checked", err.message);
        } else if (accepted && !v.valid) {
            bool known = is_known(c, "narrower", name, text.data);
            c->n_narrower++;
            if (c->out) fprintf(c->out, "narrower\t%s\t%s\n", name, text.data);
            if (!known && !c->out) {
                mlxr_buf_printf(&text, " (at \"%s\", expected %s)", v.at, v.expected);
                wrong(c, name, "accepted, but cannot be written", text.data);
            }
        } else if (!accepted && v.valid) {
            wrong(c, name, "rejected, but can be written", text.data);
        } else if (!accepted && !v.expected[0]) {
            wrong(c, name, "rejected without a word", text.data);
        }
        c->n_accepted += accepted;
        c->n_rejected += !accepted;
        mlxr_buf_clear(&text);
    }
}

static void check_entry(corpus *c, const mlxr_value *entry)
{
    const char *name = mlxr_value_get(entry, "name")->text;
    const mlxr_value *accepted = mlxr_value_get(entry, "accepted"),
                     *rejected = mlxr_value_get(entry, "rejected");
    bool listed = mlxr_value_get(entry, "listed") != NULL;
    mlxr_grammar *g;
    mlxr_schema_checker *k;
    uint64_t ns = mlxr_now_ns();
    mlxr_status st = compile(&g, mlxr_value_get(entry, "schema"));

    ns = mlxr_now_ns() - ns;
    c->compile_ns += ns;
    if (ns > c->worst_ns) {
        c->worst_ns = ns;
        snprintf(c->worst, sizeof c->worst, "%s", name);
    }
    c->n_schemas++;
    c->n_listed += listed;
    if (st == MLXR_E_INVALID_ARGUMENT) { /* no value at all */
        c->n_empty++;
        if (accepted->n > 0) wrong(c, name, "has accepted instances", err.message);
        return;
    }
    if (st != MLXR_OK) {
        c->n_refused++;
        c->n_listed_refused += listed;
        if (c->out) fprintf(c->out, "refused\t%s\t%s\n", name, err.message);
        if (!is_known(c, "refused", name, NULL) && !c->out) wrong(c, name, "refused", err.message);
        return;
    }
    assert_ok(mlxr_schema_checker_create(&k, g, &err), &err);
    check_instances(c, name, k, accepted, true);
    check_instances(c, name, k, rejected, false);
    mlxr_schema_checker_free(k);
    mlxr_grammar_unref(g);
}

static void check_file(corpus *c, const char *path)
{
    mlxr_buf text = {0};
    char *line, *end;

    assert_ok(mlxr_file_read(&text, path, 64 << 20, &err), &err);
    for (line = text.data; line && *line; line = end + 1) {
        mlxr_value_doc entry;
        end = strchr(line, '\n');
        assert_non_null(end);
        assert_ok(mlxr_value_parse(&entry, line, (size_t)(end - line), path, &err), &err);
        check_entry(c, entry.root);
        mlxr_value_clear(&entry);
    }
    mlxr_buf_clear(&text);
}

static void corpus_is_judged_as_the_reference_does(void **state)
{
    corpus c = {0};

    if (write_to) {
        c.out = fopen(write_to, "w");
        assert_non_null(c.out);
    } else {
        read_exceptions(&c);
    }
    check_file(&c, MLXR_TEST_DIR "/schemas/suite.jsonl");
    check_file(&c, MLXR_TEST_DIR "/schemas/real.jsonl");
    check_file(&c, MLXR_TEST_DIR "/schemas/generated.jsonl");
    print_message(
        "%zu schemas: %zu refused, %zu that no value fits; %zu accepted instances (%zu of them cannot be "
        "written), %zu rejected; %zu wrong\n",
        c.n_schemas, c.n_refused, c.n_empty, c.n_accepted, c.n_narrower, c.n_rejected, c.n_wrong);
    print_message("groups of the suite for the listed keywords: %zu of %zu refused (%.1f %%)\n",
                  c.n_listed_refused, c.n_listed, 100.0 * (double)c.n_listed_refused / (double)c.n_listed);
    print_message("compiled in %.2f ms each, the slowest in %.1f ms (%s); checked in %.3f ms each\n",
                  (double)c.compile_ns / 1e6 / (double)c.n_schemas, (double)c.worst_ns / 1e6, c.worst,
                  (double)c.check_ns / 1e6 / (double)(c.n_accepted + c.n_rejected));
    if (c.out) fclose(c.out);
    /* What is an exception no more has to leave the list. */
    for (const char *line = c.exceptions.data; line && !c.out && line < c.exceptions.data + c.exceptions.len;
         line += strlen(line) + 1) {
        size_t n = strlen(line);
        if (n == 0 || line[0] == '#') continue;
        if (strncmp(line, "refused\t", 8) == 0) n = 8 + strcspn(line + 8, "\t");
        if (mlxr_strtab_get(&c.known, line, n) == 0) wrong(&c, "exceptions.txt", "not an exception", line);
    }
    mlxr_strtab_clear(&c.known);
    mlxr_buf_clear(&c.exceptions);
    assert_true(c.n_schemas >= 400);
    assert_true(c.n_listed_refused * 100 <= c.n_listed * 15);
    assert_int_equal(c.n_wrong, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(corpus_is_judged_as_the_reference_does)};

    if (argc == 3 && strcmp(argv[1], "--write") == 0) write_to = argv[2];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
