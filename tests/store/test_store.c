/* The store as its users see it: putting, listing, finding, viewing, removing, gc. */
#include "test.h"

#include <sys/wait.h>

#include "made.h"

static void a_model_lives_and_goes(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_store_entry *e;
    mlxr_store_gc_result gc;
    char digest[72], *path, bytes[4096];
    uint64_t freed;
    size_t n;

    assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
    assert_int_equal(n, 0);
    mlxr_store_entries_free(e, n);
    assert_fails(mlxr_store_model_path(&path, s, "llama", &err), MLXR_E_NOT_FOUND, "it is empty", &err);
    assert_fails(mlxr_store_remove(s, "llama", NULL, &err), MLXR_E_NOT_FOUND, "no model \"llama\"", &err);
    assert_ok(mlxr_store_gc(&gc, s, NULL, &err), &err);
    assert_false(mlxr_path_is_dir(in_dir("s"))); /* reading makes nothing */

    assert_ok(make_model(digest, s, "Llama", 1, &err), &err);
    assert_ok(make_model(NULL, s, "mlx-community/Other-4bit:v1", 2, &err), &err);
    assert_int_equal(count_in(in_dir("s/sessions")), 0);
    assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(e[0].name, "Llama:latest");
    assert_string_equal(e[0].digest, digest);
    assert_string_equal(e[0].family, "llama");
    assert_string_equal(e[0].quantization, "4-bit, groups of 64");
    assert_int_equal(e[0].n_parameters, 1001);
    assert_int_equal(e[0].shared_bytes, 100);
    assert_int_equal(e[0].linked_bytes, 0);
    assert_null(e[0].broken);
    assert_string_equal(e[1].name, "mlx-community/Other-4bit:v1");
    mlxr_store_entries_free(e, n);

    assert_ok(mlxr_store_model_path(&path, s, "llama", &err), &err);
    for (unsigned k = 0; k < MADE_FILES; k++) {
        char *file = mlxr_path_join(path, made_path(k));
        assert_true(file_is(file, bytes, made_bytes(bytes, 1, k)));
        free(file);
    }
    mlxr_free(path);
    assert_ok(mlxr_store_remove(s, "LLAMA:Latest", &freed, &err), &err);
    assert_true(freed > 500);
    assert_int_equal(count_in(in_dir("s/views")), 1); /* the other's */
    assert_int_equal(count_in(in_dir("s/blobs/sha256")), 4);
    assert_null(inconsistent(s));
    assert_ok(mlxr_store_gc(&gc, s, NULL, &err), &err);
    assert_int_equal(gc.n_files, 0);
    mlxr_store_close(s);
}

static mlxr_store_gc_result gc_all(void)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store_gc_result r;
    mlxr_store *s;

    o.grace_seconds = 0;
    s = open_made(&o);
    assert_ok(mlxr_store_gc(&r, s, NULL, &err), &err);
    mlxr_store_close(s);
    return r;
}

static void names_regardless_of_case(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_store_entry *e;
    char first[72], second[72];
    size_t n;

    assert_ok(make_model(first, s, "Org/Model:V1", 1, &err), &err);
    assert_ok(make_model(second, s, "oRG/mODEL:v1", 2, &err),
              &err); /* the same name: replaced, its spelling stays */
    assert_ok(make_model(NULL, s, "org/model:v2", 3, &err), &err); /* in the same folder */
    assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(e[0].name, "Org/Model:V1");
    assert_string_equal(e[0].digest, second);
    assert_string_equal(e[1].name, "Org/Model:v2");
    mlxr_store_entries_free(e, n);
    assert_int_equal(count_in(in_dir("s/manifests/huggingface.co")), 1);
    assert_int_equal(count_in(in_dir("s/blobs/sha256")), 7); /* nothing of the first is left */
    /* By hand two spellings can be there: each is found by its own. */
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/manifests/huggingface.co/org/model"), &err), &err);
    {
        mlxr_manifest m;
        mlxr_name name;
        assert_ok(mlxr_store_find(&m, &name, s, "Org/Model:v2", &err), &err);
        assert_ok(mlxr_file_write(in_dir("s/manifests/huggingface.co/org/model/v1"), m.text, m.n_text, &err),
                  &err);
        mlxr_manifest_clear(&m);
        assert_ok(mlxr_store_find(&m, &name, s, "org/model:v1", &err), &err);
        assert_string_equal(name.name, "model");
        mlxr_manifest_clear(&m);
        assert_ok(mlxr_store_find(&m, &name, s, "ORG/Model:V1", &err), &err);
        assert_string_equal(m.digest, second);
        mlxr_manifest_clear(&m);
    }
    mlxr_store_close(s);
}

static void near_misses_are_named(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_manifest m;

    assert_ok(make_model(NULL, s, "mlx-community/Qwen3-4B-4bit", 1, &err), &err);
    assert_ok(make_model(NULL, s, "llama:8b", 2, &err), &err);
    assert_ok(make_model(NULL, s, "gemma", 3, &err), &err);
    assert_fails(mlxr_store_find(&m, NULL, s, "llama", &err), MLXR_E_NOT_FOUND,
                 "no model \"llama\"; near: llama:8b", &err);
    assert_null(strstr(err.message, "gemma"));
    assert_fails(mlxr_store_find(&m, NULL, s, "qwen3", &err), MLXR_E_NOT_FOUND,
                 "near: mlx-community/Qwen3-4B-4bit:latest", &err);
    assert_fails(mlxr_store_find(&m, NULL, s, "gema", &err), MLXR_E_NOT_FOUND, "near: gemma:latest", &err);
    assert_fails(mlxr_store_find(&m, NULL, s, "mistral", &err), MLXR_E_NOT_FOUND, "no model \"mistral\"",
                 &err);
    assert_null(strstr(err.message, "near"));
    assert_fails(mlxr_store_find(&m, NULL, s, "../x", &err), MLXR_E_INVALID_ARGUMENT, "../x", &err);
    assert_null(m.text);
    mlxr_store_close(s);
}

static void digests_find_models(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_manifest m;
    mlxr_name name;
    char digest[72], other[72], prefix[16];

    assert_ok(make_model(digest, s, "a", 1, &err), &err);
    assert_ok(make_model(other, s, "b", 2, &err), &err);
    snprintf(prefix, sizeof prefix, "%.15s", digest);
    prefix[8] = prefix[8] >= 'a' ? (char)(prefix[8] - 32) : prefix[8]; /* digits of either case */
    assert_ok(mlxr_store_find(&m, &name, s, prefix, &err), &err);
    assert_string_equal(m.digest, digest);
    assert_string_equal(name.name, "a");
    mlxr_manifest_clear(&m);
    assert_ok(mlxr_store_find(&m, NULL, s, digest, &err), &err);
    mlxr_manifest_clear(&m);
    assert_fails(mlxr_store_find(&m, NULL, s, "sha256:00000000", &err), MLXR_E_NOT_FOUND,
                 "no model has a digest", &err);
    assert_ok(mlxr_store_copy(s, digest, "org/c", &err), &err);
    assert_ok(mlxr_store_find(&m, NULL, s, digest, &err), &err); /* two names of one model are no doubt */
    mlxr_manifest_clear(&m);
    assert_fails(mlxr_store_remove(s, prefix, NULL, &err), MLXR_E_INVALID_ARGUMENT,
                 "has several names: a:latest, org/c:latest", &err);
    assert_ok(mlxr_store_remove(s, "a", NULL, &err), &err);
    assert_ok(mlxr_store_remove(s, prefix, NULL, &err), &err);
    assert_fails(mlxr_store_find(&m, NULL, s, digest, &err), MLXR_E_NOT_FOUND, "no model has a digest", &err);
    mlxr_store_close(s);
}

/* Two manifests whose digests begin with b225e80a, found among ninety thousand. */
static void a_digest_that_begins_two_models(void **state)
{
    static const char *const numbers[] = {"52519", "88634"};
    mlxr_store *s = open_made(NULL);
    mlxr_session *session;
    mlxr_layer config = {0};
    mlxr_manifest m;

    assert_ok(mlxr_session_begin(&session, s, &err), &err);
    assert_ok(mlxr_session_put(session, &config, "{\"mlxr\":1}", 10, &err), &err);
    for (int i = 0; i < 2; i++) {
        json_t *notes = json_pack("{s:s}", "n", numbers[i]);
        mlxr_name name;
        assert_ok(mlxr_manifest_make(&m, &config, NULL, 0, notes, &err), &err);
        assert_int_equal(strncmp(m.digest, "sha256:b225e80a", 15), 0);
        assert_ok(mlxr_name_parse(&name, i ? "b" : "a", &err), &err);
        assert_ok(mlxr_session_name(session, &name, &m, &err), &err);
        mlxr_manifest_clear(&m);
        json_decref(notes);
    }
    mlxr_session_end(session);
    assert_fails(mlxr_store_find(&m, NULL, s, "sha256:b225e80a", &err), MLXR_E_INVALID_ARGUMENT,
                 "begins the digests of several models: a:latest, b:latest", &err);
    assert_ok(mlxr_store_find(&m, NULL, s, "sha256:b225e80a7", &err), &err);
    mlxr_manifest_clear(&m);
    mlxr_store_close(s);
}

static void copies_share_everything(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_store_entry *e;
    uint64_t freed;
    char *a, *b;
    size_t n;

    assert_fails(mlxr_store_copy(s, "a", "b", &err), MLXR_E_NOT_FOUND, "it is empty", &err);
    assert_false(mlxr_path_is_dir(in_dir("s")));
    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    assert_ok(mlxr_store_copy(s, "A", "localhost:5000/x/y/b:2", &err), &err);
    assert_ok(mlxr_store_copy(s, "a", "a", &err), &err);
    assert_fails(mlxr_store_copy(s, "a", "..", &err), MLXR_E_INVALID_ARGUMENT, "..", &err);
    assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(e[0].digest, e[1].digest);
    assert_int_equal(e[0].shared_bytes, 0); /* one model, two names: nothing of it is another's */
    assert_string_equal(e[1].name, "localhost:5000/x/y/b:2");
    mlxr_store_entries_free(e, n);
    assert_ok(mlxr_store_model_path(&a, s, "a", &err), &err);
    assert_ok(mlxr_store_model_path(&b, s, "localhost:5000/x/y/b:2", &err), &err);
    assert_string_equal(a, b);
    assert_ok(mlxr_store_remove(s, "a", &freed, &err), &err);
    assert_int_equal(freed, 0);
    assert_true(mlxr_path_is_dir(b));
    assert_ok(mlxr_store_remove(s, "localhost:5000/x/y/b:2", &freed, &err), &err);
    assert_true(freed > 0);
    assert_false(mlxr_path_is_dir(b));
    assert_int_equal(count_in(in_dir("s/blobs/sha256")), 0);
    assert_int_equal(count_in(in_dir("s/manifests")), 0);
    mlxr_free(a);
    mlxr_free(b);
    mlxr_store_close(s);
}

static void views_are_checked_and_mended(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_store_entry *e;
    struct stat before, after;
    char digest[72], *path, hex[65], bytes[4096];
    size_t n;

    assert_ok(make_model(digest, s, "a", 1, &err), &err);
    assert_ok(mlxr_store_model_path(&path, s, "a", &err), &err);
    assert_int_equal(stat(path, &before), 0);
    mlxr_free(path);
    assert_ok(mlxr_store_model_path(&path, s, "a", &err), &err);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* made once */
    assert_int_equal(unlink(in_dir("s/views/%s/sub/notes.txt", digest + 7)), 0);
    write_text(in_dir("s/views/%s/sub/notes.txt", digest + 7), "mine");
    mlxr_free(path);
    assert_ok(mlxr_store_model_path(&path, s, "a", &err), &err);
    assert_true(file_is(in_dir("s/views/%s/sub/notes.txt", digest + 7), bytes, made_bytes(bytes, 1, 2)));
    mlxr_free(path);
    assert_int_equal(count_in(in_dir("s/views")), 1);
    /* The store can be moved: its links are relative. */
    assert_int_equal(rename(in_dir("s"), in_dir("moved")), 0);
    assert_true(file_is(in_dir("moved/views/%s/sub/notes.txt", digest + 7), bytes, made_bytes(bytes, 1, 2)));
    assert_int_equal(rename(in_dir("moved"), in_dir("s")), 0);
    /* Parts that are cut, and gone. */
    assert_ok(mlxr_sha256_hex(hex, bytes, made_bytes(bytes, 1, 1), &err), &err);
    assert_int_equal(unlink(in_dir("s/blobs/sha256/%s", hex)), 0);
    write_text(in_dir("s/blobs/sha256/%s", hex), "cut");
    assert_fails(mlxr_store_model_path(&path, s, "a", &err), MLXR_E_CORRUPT,
                 "model a: model.safetensors has 3 bytes, wanted", &err);
    assert_non_null(strstr(err.message, "--repair"));
    assert_int_equal(unlink(in_dir("s/blobs/sha256/%s", hex)), 0);
    assert_fails(mlxr_store_model_path(&path, s, "a", &err), MLXR_E_CORRUPT, "model.safetensors is missing",
                 &err);
    assert_null(path);
    assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
    assert_string_equal(e[0].broken, "model.safetensors is missing");
    mlxr_store_entries_free(e, n);
    assert_fails(mlxr_store_copy(s, "a", "b", &err), MLXR_E_CORRUPT, "model.safetensors is missing", &err);
    assert_ok(make_model(NULL, s, "a", 1, &err), &err); /* put there again, it is whole */
    assert_ok(mlxr_store_model_path(&path, s, "a", &err), &err);
    mlxr_free(path);
    mlxr_store_close(s);
}

/* As deep as a title can lead: every folder of one letter. */
static void a_file_far_down(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_session *session;
    mlxr_layer config = {0}, l = {0};
    mlxr_manifest m;
    mlxr_name name;
    struct stat before, after;
    char title[1024], *path, *file;

    for (size_t i = 0; i < sizeof title - 1; i++) title[i] = i % 2 ? '/' : 'd';
    title[sizeof title - 1] = '\0';
    l.path = title;
    assert_ok(mlxr_session_begin(&session, s, &err), &err);
    assert_ok(mlxr_session_put(session, &config, "{\"mlxr\":1}", 10, &err), &err);
    assert_ok(mlxr_session_put(session, &l, "deep", 4, &err), &err);
    assert_ok(mlxr_manifest_make(&m, &config, &l, 1, NULL, &err), &err);
    assert_ok(mlxr_name_parse(&name, "deep", &err), &err);
    assert_ok(mlxr_session_name(session, &name, &m, &err), &err);
    mlxr_session_end(session);
    mlxr_manifest_clear(&m);
    assert_ok(mlxr_store_model_path(&path, s, "deep", &err), &err);
    file = mlxr_path_join(path, title);
    assert_true(file_is(file, "deep", 4));
    assert_int_equal(stat(path, &before), 0);
    mlxr_free(path);
    assert_ok(mlxr_store_model_path(&path, s, "deep", &err), &err);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    mlxr_free(path);
    free(file);
    assert_ok(mlxr_store_remove(s, "deep", NULL, &err), &err);
    assert_int_equal(count_in(in_dir("s/views")), 0);
    mlxr_store_close(s);
}

static void a_manifest_that_cannot_be_read(void **state)
{
    static const char *const garbage[] = {"", "{", "\x80\xff", "{\"schemaVersion\":2}", "[[[[[[["};
    mlxr_store *s = open_made(NULL);
    mlxr_store_entry *e;
    mlxr_manifest m;
    uint64_t freed;
    size_t n;

    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    assert_ok(make_model(NULL, s, "b", 2, &err), &err);
    for (size_t i = 0; i < MLXR_COUNT(garbage); i++) {
        write_text(in_dir("s/manifests/huggingface.co/library/b/latest"), garbage[i]);
        assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
        assert_int_equal(n, 2);
        assert_null(e[0].broken);
        assert_string_equal(e[1].name, "b:latest");
        assert_string_equal(e[1].digest, "");
        assert_string_equal(e[1].family, "");
        assert_non_null(strstr(e[1].broken, "library/b/latest"));
        mlxr_store_entries_free(e, n);
        assert_true(mlxr_store_find(&m, NULL, s, "b", &err) != MLXR_OK);
        assert_non_null(strstr(err.message, "library/b/latest"));
        assert_fails(mlxr_store_gc(NULL, s, NULL, &err), MLXR_E_CORRUPT, "library/b/latest", &err);
        assert_non_null(strstr(err.message, "remove its name"));
        assert_int_equal(count_in(in_dir("s/blobs/sha256")), 7);
        /* Others can still be changed; what was theirs stays, since nobody knows whether b needs it. */
        assert_ok(mlxr_store_remove(s, "a", &freed, &err), &err);
        assert_int_equal(freed, 0);
        assert_int_equal(count_in(in_dir("s/blobs/sha256")), 7);
        assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    }
    assert_ok(mlxr_store_remove(s, "B", NULL, &err), &err);
    assert_int_equal(gc_all().n_files, 4); /* its view too */
    assert_int_equal(count_in(in_dir("s/blobs/sha256")), 4);
    /* A folder in a manifest's place is one that cannot be read, and goes as well. */
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/manifests/huggingface.co/library/b/latest/x"), &err), &err);
    assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
    assert_int_equal(n, 2);
    assert_non_null(e[1].broken);
    mlxr_store_entries_free(e, n);
    assert_ok(make_model(NULL, s, "b", 2, &err), &err); /* or is replaced */
    assert_null(inconsistent(s));
    mlxr_store_close(s);
}

static void what_is_no_name_is_passed_over(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_store_entry *e;
    size_t n;

    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    write_text(in_dir("s/manifests/.DS_Store"), "x");
    write_text(in_dir("s/manifests/file"), "x");
    write_text(in_dir("s/manifests/huggingface.co/library/a/latest~"), "x");
    write_text(in_dir("s/manifests/huggingface.co/library/a/.swp"), "x");
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/manifests/no host/a/b"), &err), &err);
    write_text(in_dir("s/manifests/no host/a/b/c"), "x");
    write_text(in_dir("s/blobs/sha256/README"), "x");
    drop_views();
    write_text(in_dir("s/views"), "x");
    assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
    assert_int_equal(n, 1);
    mlxr_store_entries_free(e, n);
    assert_int_equal(gc_all().n_files, 0);
    assert_int_equal(access(in_dir("s/blobs/sha256/README"), F_OK), 0);
    assert_int_equal(access(in_dir("s/manifests/no host/a/b/c"), F_OK), 0);
    mlxr_store_close(s);
}

static void a_config_that_cannot_be_read(void **state)
{
    mlxr_store *s = open_made(NULL);
    mlxr_store_entry *e;
    mlxr_manifest m;
    mlxr_buf text = {0};
    size_t n;

    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    assert_ok(mlxr_store_find(&m, NULL, s, "a", &err), &err);
    for (uint64_t i = 0; i < m.config.size; i++) mlxr_buf_char(&text, '?');
    assert_int_equal(unlink(in_dir("s/blobs/sha256/%s", m.config.digest + 7)), 0);
    write_text(in_dir("s/blobs/sha256/%s", m.config.digest + 7), text.data);
    assert_ok(mlxr_store_list(&e, &n, s, &err), &err);
    assert_non_null(strstr(e[0].broken, "its config cannot be read"));
    assert_string_equal(e[0].family, "");
    mlxr_store_entries_free(e, n);
    mlxr_buf_clear(&text);
    mlxr_manifest_clear(&m);
    mlxr_store_close(s);
}

static void replaced_models_leave_nothing(void **state)
{
    mlxr_store *s = open_made(NULL);
    char first[72], *path;

    assert_ok(make_model(first, s, "a", 1, &err), &err);
    assert_ok(mlxr_store_model_path(&path, s, "a", &err), &err);
    mlxr_free(path);
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/origins"), &err), &err);
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/sums/sha256"), &err), &err);
    write_text(in_dir("s/origins/%s", first + 7), "{}");
    assert_ok(mlxr_store_copy(s, "a", "b", &err), &err);
    assert_ok(make_model(NULL, s, "a", 2, &err), &err);
    assert_int_equal(count_in(in_dir("s/views")), 2); /* b has the first */
    assert_int_equal(count_in(in_dir("s/origins")), 1);
    assert_int_equal(count_in(in_dir("s/blobs/sha256")), 7);
    assert_ok(make_model(NULL, s, "b", 3, &err), &err);
    assert_int_equal(count_in(in_dir("s/views")), 2); /* the first is gone */
    assert_int_equal(count_in(in_dir("s/origins")), 0);
    assert_int_equal(count_in(in_dir("s/blobs/sha256")), 7);
    assert_null(inconsistent(s));
    mlxr_store_close(s);
}

static void gc_leaves_no_record_alone(void **state)
{
    mlxr_store *s = open_made(NULL);
    char hex[65], bytes[4096];

    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    assert_ok(mlxr_sha256_hex(hex, bytes, made_bytes(bytes, 1, 1), &err), &err);
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/links/sha256"), &err), &err);
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/sums/sha256"), &err), &err);
    write_text(in_dir("s/links/sha256/%s", hex), "{}"); /* its link has become a file */
    write_text(in_dir("s/sums/sha256/%s", hex), "x");
    assert_int_equal(gc_all().n_files, 1);
    assert_int_equal(count_in(in_dir("s/links/sha256")), 0);
    assert_int_equal(count_in(in_dir("s/sums/sha256")), 1);
    assert_ok(mlxr_store_remove(s, "a", NULL, &err), &err);
    assert_int_equal(count_in(in_dir("s/sums/sha256")), 0);
    assert_int_equal(count_in(in_dir("s/sums/manifests")), 0);
    write_text(in_dir("s/sums/manifests/.x.01234567.tmp"), "x");
    assert_int_equal(gc_all().n_files, 1);
    write_text(in_dir("s/sums/sha256/%s", hex), "x");
    assert_int_equal(gc_all().n_files, 1);
    mlxr_store_close(s);
}

/* As another user, who may read everything and write nothing. */
static int read_as_nobody(void)
{
    mlxr_store_entry *e;
    mlxr_store *s;
    char *path;
    size_t n;

    if (setgid(65534) != 0 || setuid(65534) != 0) return 2;
    if (mlxr_store_open(&s, in_dir("s"), NULL, &err) != MLXR_OK) return 3;
    if (mlxr_store_list(&e, &n, s, &err) != MLXR_OK || n != 2 || e[0].broken) return 4;
    if (mlxr_store_model_path(&path, s, "a", &err) != MLXR_OK) return 5;
    if (mlxr_store_model_path(&path, s, "b", &err) != MLXR_E_DENIED ||
        !strstr(err.message, "has to be made once"))
        return 6;
    if (make_model(NULL, s, "c", 3, &err) != MLXR_E_DENIED) return 7;
    if (mlxr_store_remove(s, "a", NULL, &err) != MLXR_E_DENIED) return 8;
    if (mlxr_store_copy(s, "a", "c", &err) != MLXR_E_DENIED) return 9;
    if (mlxr_store_set_quota(s, 5, &err) != MLXR_E_DENIED) return 10;
    if (mlxr_store_remove(s, "x", NULL, &err) != MLXR_E_NOT_FOUND) return 11;
    return 0;
}

static void another_users_store(void **state)
{
    mlxr_store *s;
    char *path;
    int status;
    pid_t pid;

    if (geteuid() != 0) {
        printf("SKIP: only root can be another user\n");
        return;
    }
    umask(022);
    assert_int_equal(chmod(made_dir, 0755), 0);
    s = open_made(NULL);
    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    assert_ok(make_model(NULL, s, "b", 2, &err), &err);
    drop_views();
    assert_ok(mlxr_store_model_path(&path, s, "a", &err), &err);
    mlxr_free(path);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) _exit(read_as_nobody());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_null(inconsistent(s));
    mlxr_store_close(s);
}

static void gc_can_be_stopped(void **state)
{
    const int cancel = 1;
    const mlxr_store_job job = {.cancel = &cancel};
    mlxr_store *s = open_made(NULL);

    assert_ok(make_model(NULL, s, "a", 1, &err), &err);
    assert_fails(mlxr_store_gc(NULL, s, &job, &err), MLXR_E_CANCELLED, "cancelled", &err);
    mlxr_store_close(s);
}

/* Downloads that are not whole stay as long as somebody works on them, or may go on soon. */
static void partial_downloads(void **state)
{
    const struct timespec old[2] = {{1000, 0}, {1000, 0}};
    mlxr_store_gc_result r;
    char hex[65];
    int lock;

    assert_ok(mlxr_sha256_hex(hex, "x", 1, &err), &err);
    assert_ok(mlxr_io_make_dirs(NULL, in_dir("s/partial"), &err), &err);
    write_text(in_dir("s/partial/%s", hex), "half");
    write_text(in_dir("s/partial/%s.state", hex), "{}");
    {
        mlxr_store *s = open_made(NULL);
        assert_ok(mlxr_store_gc(&r, s, NULL, &err), &err);
        assert_int_equal(r.n_kept, 1); /* young */
        mlxr_store_close(s);
    }
    assert_int_equal(utimensat(AT_FDCWD, in_dir("s/partial/%s", hex), old, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, in_dir("s/partial/%s.state", hex), old, 0), 0);
    assert_ok(mlxr_io_lock(&lock, NULL, in_dir("s/partial/%s.state", hex), true, false, NULL, &err), &err);
    r = gc_all();
    assert_int_equal(r.n_kept, 1); /* in use */
    assert_int_equal(count_in(in_dir("s/partial")), 2);
    mlxr_io_unlock(lock);
    r = gc_all();
    assert_int_equal(r.n_kept, 0);
    assert_int_equal(count_in(in_dir("s/partial")), 0);
}

static void stores_are_opened(void **state)
{
    mlxr_store_options o = mlxr_store_options_default();
    mlxr_store *s;
    char here[1024];

    assert_fails(mlxr_store_open(&s, "", NULL, &err), MLXR_E_INVALID_ARGUMENT, "empty", &err);
    assert_null(s);
    o.grace_seconds = -1;
    assert_fails(mlxr_store_open(&s, "x", &o, &err), MLXR_E_INVALID_ARGUMENT, "grace_seconds is -1", &err);
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(made_dir), 0);
    assert_ok(mlxr_store_open(&s, "s//", NULL, &err), &err);
    assert_string_equal(s->root, in_dir("s"));
    assert_int_equal(chdir(here), 0);
    assert_ok(make_model(NULL, s, "a", 1, &err), &err); /* the folder is where it was meant */
    mlxr_store_close(s);
    mlxr_store_close(NULL);
    write_text(in_dir("file"), "x");
    assert_fails(mlxr_store_open(&s, in_dir("file"), NULL, &err), MLXR_E_INVALID_ARGUMENT, "wanted a folder",
                 &err);
    assert_null(s);
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, made_begin, made_end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(a_model_lives_and_goes),
        WITH_DIR(names_regardless_of_case),
        WITH_DIR(near_misses_are_named),
        WITH_DIR(digests_find_models),
        WITH_DIR(a_digest_that_begins_two_models),
        WITH_DIR(copies_share_everything),
        WITH_DIR(views_are_checked_and_mended),
        WITH_DIR(a_file_far_down),
        WITH_DIR(a_manifest_that_cannot_be_read),
        WITH_DIR(what_is_no_name_is_passed_over),
        WITH_DIR(a_config_that_cannot_be_read),
        WITH_DIR(replaced_models_leave_nothing),
        WITH_DIR(gc_leaves_no_record_alone),
        WITH_DIR(another_users_store),
        WITH_DIR(gc_can_be_stopped),
        WITH_DIR(partial_downloads),
        WITH_DIR(stores_are_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
