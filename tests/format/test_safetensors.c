/* safetensors: what is read, what is refused and with which words, folders of every shape, and the writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "format/format.h"
#include "temp_dir.h"

/* A file of this header and n_data bytes 0, 1, 2, ... */
static void make_file(mlxr_buf *out, const char *header, size_t n_data)
{
    uint64_t n = strlen(header);
    out->len = 0;
    mlxr_buf_append(out, &n, sizeof n);
    mlxr_buf_append(out, header, n);
    for (size_t i = 0; i < n_data; i++) mlxr_buf_char(out, (char)i);
    assert_false(out->failed);
}

static void write_file(const char *name, const void *data, size_t n)
{
    assert_int_equal(mlxr_file_write(temp_path(name), data, n, NULL), MLXR_OK);
}

static void write_shard(const char *name, const char *header, size_t n_data)
{
    mlxr_buf b = {0};
    make_file(&b, header, n_data);
    write_file(name, b.data, b.len);
    mlxr_buf_clear(&b);
}

static void says(const mlxr_error *err, const char *words)
{
    if (!strstr(err->message, words)) fail_msg("\"%s\" does not say \"%s\"", err->message, words);
    if (strchr(err->message, '\n')) fail_msg("more than one line: %s", err->message);
}

/* ---- one file ---- */

static void good_file(void **state)
{
    static const char header[] = "{\"__metadata__\":{\"format\":\"mlx\"},\"b\":{\"dtype\":\"F16\",\"shape\":["
                                 "2,3],\"data_offsets\":[4,16]},"
                                 "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                                 "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[16,16]},"
                                 "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[16,24]},"
                                 "\"six\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[24,27]}}   ";
    mlxr_buf b = {0};
    mlxr_checkpoint *c = NULL;
    mlxr_error err;
    const mlxr_tensor *t;

    make_file(&b, header, 27);
    assert_int_equal(mlxr_checkpoint_open_bytes(&c, b.data, b.len, "dir/x.safetensors", &err), MLXR_OK);
    assert_int_equal(mlxr_checkpoint_count(c), 5);
    assert_string_equal(mlxr_checkpoint_get(c, 0)->name, "a"); /* in the order of the data */
    assert_null(mlxr_checkpoint_get(c, 5));
    assert_int_equal(mlxr_checkpoint_bytes(c), b.len);
    t = mlxr_checkpoint_find(c, "b");
    assert_non_null(t);
    assert_int_equal(t->dtype, MLXR_F16);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->n_elements, 6);
    assert_int_equal(t->n_bytes, 12);
    assert_int_equal(*(const uint8_t *)t->data, 4);
    assert_string_equal(t->file, "x.safetensors");
    assert_int_equal(mlxr_checkpoint_find(c, "scalar")->n_elements, 1);
    assert_int_equal(mlxr_checkpoint_find(c, "none")->n_bytes, 0);
    assert_int_equal(mlxr_checkpoint_find(c, "six")->n_bytes, 3);
    assert_null(mlxr_checkpoint_find(c, "__metadata__"));
    mlxr_checkpoint_prefetch(c, NULL);
    mlxr_checkpoint_close(c);

    make_file(&b, "{}", 0);
    assert_int_equal(mlxr_checkpoint_open_bytes(&c, b.data, b.len, "empty", &err), MLXR_OK);
    assert_int_equal(mlxr_checkpoint_count(c), 0);
    mlxr_checkpoint_close(c);
    mlxr_checkpoint_close(NULL);
    mlxr_buf_clear(&b);
}

#define T(dtype, shape, offsets) \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct {
    const char *header;
    size_t n_data;
    mlxr_status status;
    const char *words;
} hostile[] = {
    {"", 0, MLXR_E_FORMAT, "does not begin with '{'"},
    {" {}", 0, MLXR_E_FORMAT, "does not begin with '{'"},
    {"{", 0, MLXR_E_FORMAT, "not valid JSON"},
    {"{}}", 0, MLXR_E_FORMAT, "not valid JSON"},
    {"{\"\xff\":1}", 0, MLXR_E_FORMAT, "not valid JSON"},
    {"{\"a\\u0000b\":1}", 0, MLXR_E_FORMAT, "not valid JSON"},
    {"{\"t\":1}", 0, MLXR_E_FORMAT, "\"t\": not an object"},
    {"{\"__metadata__\":[]}", 0, MLXR_E_FORMAT, "\"__metadata__\" is not an object"},
    {"{\"__metadata__\":{\"k\":1}}", 0, MLXR_E_FORMAT, "\"k\" is not a string"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
     2, MLXR_E_FORMAT, "duplicate"},
    {"{\"t\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, MLXR_E_FORMAT, "no \"dtype\""},
    {T("U7", "[1]", "[0,1]"), 1, MLXR_E_FORMAT, "unknown dtype \"U7\""},
    {T("U8", "3", "[0,1]"), 1, MLXR_E_FORMAT, "no \"shape\""},
    {T("U8", "[-1]", "[0,1]"), 1, MLXR_E_FORMAT, "dimension 0"},
    {T("U8", "[1.0]", "[0,1]"), 1, MLXR_E_FORMAT, "dimension 0"},
    {T("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, MLXR_E_UNSUPPORTED, "9 dimensions"},
    {T("U8", "[4294967296,4294967296]", "[0,1]"), 1, MLXR_E_FORMAT, "product overflows"},
    {T("F64", "[4294967296,1073741824]", "[0,1]"), 1, MLXR_E_FORMAT, "bytes overflow"},
    {T("U8", "[99999999999999999999]", "[0,1]"), 1, MLXR_E_FORMAT, "not valid JSON"},
    {T("F4", "[3]", "[0,1]"), 1, MLXR_E_FORMAT, "does not fill whole bytes"},
    {T("U8", "[1]", "[0]"), 1, MLXR_E_FORMAT, "\"data_offsets\""},
    {T("U8", "[1]", "[\"0\",1]"), 1, MLXR_E_FORMAT, "\"data_offsets\""},
    {T("U8", "[1]", "[-1,1]"), 1, MLXR_E_FORMAT, "\"data_offsets\""},
    {T("U8", "[2]", "[0,2]"), 1, MLXR_E_FORMAT, "outside the file's 1 bytes"},
    {T("U8", "[1]", "[9223372036854775807,1]"), 1, MLXR_E_FORMAT, "outside"},
    {T("U8", "[1]", "[1,0]"), 1, MLXR_E_FORMAT, "before its begin"},
    {T("F16", "[64, 128]", "[0,8192]"), 8192, MLXR_E_FORMAT,
     "\"t\": shape [64, 128] F16 needs 16384 bytes, its offsets span 8192"},
    {T("U8", "[1]", "[1,2]"), 2, MLXR_E_FORMAT, "a hole of 1 bytes before \"t\""},
    {T("U8", "[1]", "[0,1]"), 2, MLXR_E_FORMAT, "1 bytes after the last tensor"},
    {"{}", 1, MLXR_E_FORMAT, "1 bytes after the last tensor"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"u\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
     3, MLXR_E_FORMAT, "\"u\" at 1 overlaps \"t\", which ends at 2"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"u\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}",
     2, MLXR_E_FORMAT, "overlaps"},
};

static void hostile_files(void **state)
{
    mlxr_buf b = {0};

    for (size_t i = 0; i < MLXR_COUNT(hostile); i++) {
        mlxr_checkpoint *c = (mlxr_checkpoint *)&b;
        mlxr_error err = {0};
        uint8_t *exact;
        make_file(&b, hostile[i].header, hostile[i].n_data);
        exact = malloc(b.len); /* so that a read past the end is seen */
        assert_non_null(exact);
        memcpy(exact, b.data, b.len);
        if (mlxr_checkpoint_open_bytes(&c, exact, b.len, "f", &err) != hostile[i].status)
            fail_msg("%s: %s", hostile[i].header, err.message);
        assert_null(c);
        says(&err, hostile[i].words);
        says(&err, "safetensors: ");
        free(exact);
    }
    mlxr_buf_clear(&b);
}

static void cut_files(void **state)
{
    mlxr_buf b = {0};
    mlxr_checkpoint *c;
    mlxr_error err;
    uint64_t n;

    make_file(&b, T("U8", "[4]", "[0,4]"), 4);
    for (size_t len = 0; len < b.len; len++) {
        uint8_t *exact = malloc(len ? len : 1);
        assert_non_null(exact);
        memcpy(exact, b.data, len);
        assert_int_equal(mlxr_checkpoint_open_bytes(&c, exact, len, "f", &err), MLXR_E_FORMAT);
        free(exact);
    }
    assert_int_equal(mlxr_checkpoint_open_bytes(&c, b.data, 7, "f", &err), MLXR_E_FORMAT);
    says(&err, "7 bytes, too short");
    n = b.len;
    memcpy(b.data, &n, sizeof n);
    assert_int_equal(mlxr_checkpoint_open_bytes(&c, b.data, b.len, "f", &err), MLXR_E_FORMAT);
    says(&err, "(cut short?)");
    n = 100000001;
    memcpy(b.data, &n, sizeof n);
    assert_int_equal(mlxr_checkpoint_open_bytes(&c, b.data, b.len, "f", &err), MLXR_E_FORMAT);
    says(&err, "at most 100000000");
    n = UINT64_MAX;
    memcpy(b.data, &n, sizeof n);
    assert_int_equal(mlxr_checkpoint_open_bytes(&c, b.data, b.len, "f", &err), MLXR_E_FORMAT);
    mlxr_buf_clear(&b);
}

/* ---- folders ---- */

static void refused(mlxr_status status, const char *words)
{
    mlxr_checkpoint *c;
    mlxr_error err = {0};
    assert_int_equal(mlxr_checkpoint_open(&c, temp_dir, &err), status);
    assert_null(c);
    says(&err, words);
}

static mlxr_checkpoint *opened(size_t n_tensors)
{
    mlxr_checkpoint *c;
    mlxr_error err = {0};
    if (mlxr_checkpoint_open(&c, temp_dir, &err) != MLXR_OK) fail_msg("%s", err.message);
    assert_int_equal(mlxr_checkpoint_count(c), n_tensors);
    return c;
}

#define INDEX             "model.safetensors.index.json"
#define ONE(name)         "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"
#define MAP(a, fa, b, fb) "{\"metadata\":{},\"weight_map\":{\"" a "\":\"" fa "\",\"" b "\":\"" fb "\"}}"

static void write_index(const char *text)
{
    write_file(INDEX, text, strlen(text));
}

/* A folder's files one by one and some of them together, whatever the index says. */
static void chosen_files(void **state)
{
    mlxr_checkpoint *c;
    mlxr_error err = {0};
    char *paths[3];
    (void)state;

    write_shard("a.safetensors", ONE("a"), 1);
    write_shard("b.safetensors", ONE("b"), 1);
    write_shard("c.safetensors", ONE("a"), 1);
    write_index("nonsense");
    for (size_t i = 0; i < 3; i++) {
        paths[i] = mlxr_asprintf("%s/%c.safetensors", temp_dir, (char)('a' + i));
        assert_non_null(paths[i]);
    }
    assert_int_equal(mlxr_checkpoint_open_files(&c, (const char *const *)paths, 2, &err), MLXR_OK);
    assert_int_equal(mlxr_checkpoint_count(c), 2);
    assert_string_equal(mlxr_checkpoint_find(c, "b")->file, "b.safetensors");
    mlxr_checkpoint_close(c);
    assert_int_equal(mlxr_checkpoint_open_files(&c, NULL, 0, &err), MLXR_OK);
    assert_int_equal(mlxr_checkpoint_count(c), 0);
    assert_null(mlxr_checkpoint_find(c, "a"));
    mlxr_checkpoint_close(c);
    assert_int_equal(mlxr_checkpoint_open_files(&c, (const char *const *)paths, 3, &err), MLXR_E_FORMAT);
    assert_null(c);
    says(&err, "\"a\" is in a.safetensors already");
    for (size_t i = 0; i < 3; i++) free(paths[i]);
}

static void folders(void **state)
{
    mlxr_checkpoint *c;

    refused(MLXR_E_NOT_FOUND,
            "looked for model.safetensors.index.json, model.safetensors and model*.safetensors");

    write_shard("model-2.safetensors", ONE("b"), 1);
    write_shard("model-1.safetensors", ONE("a"), 1);
    write_shard("other.safetensors", ONE("z"), 1);
    c = opened(2); /* no index: all of model*.safetensors, in the order of their names */
    assert_string_equal(mlxr_checkpoint_get(c, 0)->file, "model-1.safetensors");
    mlxr_checkpoint_close(c);

    write_index(MAP("a", "model-1.safetensors", "b", "model-2.safetensors"));
    c = opened(2);
    assert_string_equal(mlxr_checkpoint_find(c, "b")->file, "model-2.safetensors");
    mlxr_checkpoint_close(c);

    write_index(MAP("a", "model-2.safetensors", "b", "model-2.safetensors"));
    refused(MLXR_E_FORMAT, "\"a\" is said to be in model-2.safetensors, which lacks it");
    write_index(MAP("a", "model-1.safetensors", "b", "model-3.safetensors"));
    refused(MLXR_E_NOT_FOUND, "model-3.safetensors");
    write_index(MAP("a", "../x.safetensors", "b", "model-2.safetensors"));
    refused(MLXR_E_FORMAT, "no file of this folder");
    write_index("{\"weight_map\":{\"a\":1}}");
    refused(MLXR_E_FORMAT, "\"a\" is not mapped to a file's name");
    write_index("{\"weight_map\":[]}");
    refused(MLXR_E_FORMAT, "no \"weight_map\"");
    write_index("{\"weight_map\":{}}");
    refused(MLXR_E_FORMAT, "no \"weight_map\"");
    write_index("[1]");
    refused(MLXR_E_FORMAT, "no \"weight_map\"");
    write_index("{\"weight_map\":");
    refused(MLXR_E_FORMAT, "not valid JSON");

    write_shard("model-2.safetensors", ONE("a"), 1);
    write_index(MAP("a", "model-1.safetensors", "a2", "model-2.safetensors"));
    refused(MLXR_E_FORMAT, "\"a\" is in model-1.safetensors already");

    /* An index whose shards are gone counts for nothing beside the merged file, and only then. */
    write_index(MAP("a", "gone-1.safetensors", "b", "gone-2.safetensors"));
    refused(MLXR_E_NOT_FOUND, "gone-1.safetensors");
    write_shard("model.safetensors", ONE("m"), 1);
    c = opened(1);
    assert_non_null(mlxr_checkpoint_find(c, "m"));
    mlxr_checkpoint_close(c);
    write_index(MAP("m", "model.safetensors", "m", "model.safetensors"));
    refused(MLXR_E_FORMAT, "duplicate");
    write_index("{\"weight_map\":{\"m\":\"model.safetensors\"}}");
    mlxr_checkpoint_close(opened(1));

    assert_int_equal(unlink(temp_path("model.safetensors")), 0);
    assert_int_equal(mkdir(temp_path("model.safetensors"), 0777), 0);
    refused(MLXR_E_IO, "is a folder");
}

static void missing_paths(void **state)
{
    mlxr_checkpoint *c;
    mlxr_error err;

    assert_int_equal(mlxr_checkpoint_open(&c, temp_path("nothing"), &err), MLXR_E_NOT_FOUND);
    says(&err, "nothing");
    assert_int_equal(mlxr_checkpoint_open_file(&c, temp_path("nothing"), &err), MLXR_E_NOT_FOUND);
    assert_int_equal(mlxr_checkpoint_open_file(&c, temp_dir, &err), MLXR_E_IO);
    if (geteuid() == 0) {
        printf("SKIP: root can read any file\n");
        return;
    }
    write_shard("model.safetensors", ONE("m"), 1);
    assert_int_equal(chmod(temp_path("model.safetensors"), 0), 0);
    refused(MLXR_E_IO, "cannot open");
}

/* ---- writer ---- */

typedef struct source {
    uint32_t seed;
    size_t fail_at; /* SIZE_MAX: never */
    size_t n_calls;
} source;

static uint8_t source_byte(const source *s, size_t i)
{
    return (uint8_t)(((uint32_t)i + s->seed) * 2654435761u >> 24);
}

static mlxr_status fill(void *ud, void *dst, size_t begin, size_t n, mlxr_error *err)
{
    source *s = ud;
    assert_int_equal(begin % 983040, 0);
    s->n_calls++;
    if (begin + n > s->fail_at) return mlxr_fail(err, MLXR_E_IO, "the source ran dry");
    for (size_t i = 0; i < n; i++) ((uint8_t *)dst)[i] = source_byte(s, begin + i);
    return MLXR_OK;
}

static void add_progress(uint64_t done, uint64_t total, void *ud)
{
    uint64_t *last = ud;
    assert_true(done > last[0] && done <= total);
    last[0] = done;
    last[1] = total;
}

static void written_and_read(void **state)
{
    static const size_t big[2] = {1000, 1001}, small[1] = {5}, none[2] = {0, 3};
    source sources[3] = {{1, SIZE_MAX, 0}, {2, SIZE_MAX, 0}, {3, SIZE_MAX, 0}};
    uint64_t last[2] = {0, 0};
    const mlxr_progress progress = {add_progress, last};
    mlxr_safetensors_writer *w;
    mlxr_checkpoint *c;
    mlxr_error err;
    json_t *metadata = json_pack("{s:s}", "k", "quote \" and \xc3\xa9"), *wrong = json_pack("{s:i}", "k", 1);
    const mlxr_tensor *t;

    assert_int_equal(mlxr_safetensors_writer_create(&w, temp_path("model.safetensors"), &err), MLXR_OK);
    assert_int_equal(
        mlxr_safetensors_writer_add(w, "big \"\xe2\x96\x81\"", MLXR_F32, 2, big, fill, &sources[0], &err), 0);
    assert_int_equal(mlxr_safetensors_writer_add(w, "small", MLXR_U8, 1, small, fill, &sources[1], &err), 0);
    assert_int_equal(mlxr_safetensors_writer_add(w, "none", MLXR_F16, 2, none, fill, &sources[2], &err), 0);
    assert_int_equal(mlxr_safetensors_writer_add(w, "small", MLXR_U8, 1, small, fill, NULL, &err),
                     MLXR_E_INVALID_ARGUMENT);
    says(&err, "declared twice");
    assert_int_equal(mlxr_safetensors_writer_add(w, "__metadata__", MLXR_U8, 1, small, fill, NULL, &err),
                     MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(mlxr_safetensors_writer_add(w, "\xff", MLXR_U8, 1, small, fill, NULL, &err),
                     MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(mlxr_safetensors_writer_add(w, "f4", MLXR_F4, 1, small, fill, NULL, &err),
                     MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(
        mlxr_safetensors_writer_add(w, "huge", MLXR_U8, 2, (size_t[]){SIZE_MAX, SIZE_MAX}, fill, NULL, &err),
        MLXR_E_LIMIT);
    assert_int_equal(mlxr_safetensors_writer_commit(w, wrong, NULL, &err), MLXR_E_INVALID_ARGUMENT);
    assert_int_equal(count_files(temp_dir), 0);
    assert_int_equal(mlxr_safetensors_writer_commit(w, metadata, &progress, &err), MLXR_OK);
    assert_int_equal(last[0], last[1]);
    assert_int_equal(last[1], 4004005);
    assert_true(sources[0].n_calls > 1);
    assert_int_equal(sources[2].n_calls, 0);
    assert_int_equal(count_files(temp_dir), 1);
    mlxr_safetensors_writer_free(w);

    assert_int_equal(mlxr_checkpoint_open(&c, temp_dir, &err), MLXR_OK);
    assert_int_equal(mlxr_checkpoint_count(c), 3);
    t = mlxr_checkpoint_find(c, "big \"\xe2\x96\x81\"");
    assert_non_null(t);
    assert_int_equal((uintptr_t)t->data % 64, 0);
    assert_int_equal(t->n_bytes, 4004000);
    for (size_t i = 0; i < t->n_bytes; i++)
        assert_int_equal(((const uint8_t *)t->data)[i], source_byte(&sources[0], i));
    t = mlxr_checkpoint_find(c, "small");
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(((const uint8_t *)t->data)[i], source_byte(&sources[1], i));
    assert_int_equal(mlxr_checkpoint_find(c, "none")->shape[1], 3);
    last[0] = 0;
    mlxr_checkpoint_prefetch(c, &progress);
    assert_int_equal(last[0], mlxr_checkpoint_bytes(c));
    mlxr_checkpoint_close(c);
    json_decref(metadata);
    json_decref(wrong);
}

static void failed_write_leaves_nothing(void **state)
{
    static const size_t shape[1] = {2000000};
    source s = {1, 1500000, 0};
    mlxr_safetensors_writer *w;
    mlxr_error err;

    write_file("model.safetensors", "old", 3);
    assert_int_equal(mlxr_safetensors_writer_create(&w, temp_path("model.safetensors"), &err), MLXR_OK);
    assert_int_equal(mlxr_safetensors_writer_add(w, "t", MLXR_U8, 1, shape, fill, &s, &err), MLXR_OK);
    assert_int_equal(mlxr_safetensors_writer_commit(w, NULL, NULL, &err), MLXR_E_IO);
    says(&err, "ran dry");
    assert_int_equal(count_files(temp_dir), 1); /* the old file, untouched */
    mlxr_safetensors_writer_free(w);
    assert_int_equal(mlxr_safetensors_writer_create(&w, temp_path("no/such/folder"), &err), MLXR_OK);
    assert_int_equal(mlxr_safetensors_writer_commit(w, NULL, NULL, &err), MLXR_E_NOT_FOUND);
    mlxr_safetensors_writer_free(w);
    mlxr_safetensors_writer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_file),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(cut_files),
        cmocka_unit_test_setup_teardown(chosen_files, temp_dir_make, temp_dir_remove),
        cmocka_unit_test_setup_teardown(folders, temp_dir_make, temp_dir_remove),
        cmocka_unit_test_setup_teardown(missing_paths, temp_dir_make, temp_dir_remove),
        cmocka_unit_test_setup_teardown(written_and_read, temp_dir_make, temp_dir_remove),
        cmocka_unit_test_setup_teardown(failed_write_leaves_nothing, temp_dir_make, temp_dir_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
