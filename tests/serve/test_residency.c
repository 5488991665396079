/* Residency without engines: a model is a counter, opening takes as long as a test says. Threads, late waiters, failing loads, eviction,
 * making way, unloading under use. */
#include <pthread.h>

#include "serving.h"

enum { MANY = 8 };

/* The owner's side. */
static struct owner {
    pthread_mutex_t lock;
    int n_open, n_most, n_opened, n_closed, n_planned;
    long open_ms;
    bool hold; /* opening waits until it is false, or cancelled */
} own = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct model {
    char name[40];
    int users; /* atomic; of the test, not the residency */
};

/* A model "12x" takes 12 bytes; "bad" does not open, "0huge" not plan. */
static mlxr_status plan(void *ud, const mlxr_resident_key *key, uint64_t *n_bytes, mlxr_error *e)
{
    pthread_mutex_lock(&own.lock);
    own.n_planned++;
    pthread_mutex_unlock(&own.lock);
    *n_bytes = strtoull(key->name, NULL, 10);
    if (strcmp(key->name, "0noplan") == 0) return mlxr_fail(e, MLXR_E_FORMAT, "no plan");
    return MLXR_OK;
}

static mlxr_status open_one(void *ud, const mlxr_resident_key *key, const volatile int *cancel, void **model,
                            mlxr_error *e)
{
    struct model *m;
    bool held = true;

    while (held) {
        pthread_mutex_lock(&own.lock);
        held = own.hold;
        pthread_mutex_unlock(&own.lock);
        if (mlxr_cancelled(cancel)) return mlxr_fail(e, MLXR_E_CANCELLED, "given up");
        if (held) sleep_ms(1);
    }
    if (own.open_ms) sleep_ms(own.open_ms);
    if (strcmp(key->name, "0bad") == 0) return mlxr_fail(e, MLXR_E_CORRUPT, "is damaged");
    m = calloc(1, sizeof *m);
    if (!m) return mlxr_fail_nomem(e, "model");
    snprintf(m->name, sizeof m->name, "%s", key->name);
    pthread_mutex_lock(&own.lock);
    own.n_opened++;
    if (++own.n_open > own.n_most) own.n_most = own.n_open;
    pthread_mutex_unlock(&own.lock);
    *model = m;
    return MLXR_OK;
}

static void close_one(void *ud, void *model)
{
    struct model *m = model;

    if (__atomic_load_n(&m->users, __ATOMIC_SEQ_CST) != 0) abort(); /* closed under a user */
    pthread_mutex_lock(&own.lock);
    own.n_open--;
    own.n_closed++;
    pthread_mutex_unlock(&own.lock);
    free(m);
}

static int owner_get(const int *what)
{
    int n;
    pthread_mutex_lock(&own.lock);
    n = *what;
    pthread_mutex_unlock(&own.lock);
    return n;
}

static void set_hold(bool hold)
{
    pthread_mutex_lock(&own.lock);
    own.hold = hold;
    pthread_mutex_unlock(&own.lock);
}

/* One who asks. */
struct asker {
    pthread_mutex_t lock;
    bool told;
    mlxr_resident *m;
    mlxr_status st;
    char why[200];
    uint64_t ticket, load_ns;
};

static void on_ready(void *ud, mlxr_resident *m, uint64_t load_ns, const mlxr_error *e)
{
    struct asker *a = ud;

    pthread_mutex_lock(&a->lock);
    a->told = true;
    a->m = m;
    a->load_ns = load_ns;
    a->st = m ? MLXR_OK : e->code;
    if (!m) snprintf(a->why, sizeof a->why, "%.190s", e->message);
    pthread_mutex_unlock(&a->lock);
}

static bool told(struct asker *a)
{
    bool is;
    pthread_mutex_lock(&a->lock);
    is = a->told;
    pthread_mutex_unlock(&a->lock);
    return is;
}

static mlxr_residency *res;

static mlxr_residency_options options(void)
{
    mlxr_residency_options o = mlxr_residency_options_default();

    o.plan = plan;
    o.open = open_one;
    o.close = close_one;
    o.patience_ns = 20 * 1000000u;
    return o;
}

static void begin(mlxr_residency_options o)
{
    own = (struct owner){.lock = PTHREAD_MUTEX_INITIALIZER};
    assert_ok(mlxr_residency_create(&res, &o, &err), &err);
}

static void end(void)
{
    mlxr_residency_free(res);
    res = NULL;
    assert_int_equal(own.n_open, 0);
}

static mlxr_resident_key key_of(const char *name)
{
    return (mlxr_resident_key){.name = name, .path = "/x", .digest = "d"};
}

static mlxr_status ask_key(struct asker *a, mlxr_resident_key key)
{
    *a = (struct asker){.lock = PTHREAD_MUTEX_INITIALIZER};
    return mlxr_residency_acquire(res, &key, on_ready, a, &a->ticket, &err);
}

static void ask(struct asker *a, const char *name)
{
    assert_ok(ask_key(a, key_of(name)), &err);
}

static void got(struct asker *a)
{
    WAIT_FOR(told(a));
    if (!a->m) fail_msg("%s", a->why);
}

static void let(struct asker *a, int64_t keep)
{
    mlxr_resident_release(a->m, keep);
    a->m = NULL;
}

static size_t n_loaded(void)
{
    return mlxr_residency_count(res).n_loaded;
}

static void test_loads_once(void **state)
{
    struct asker a[MANY];

    begin(options());
    set_hold(true);
    for (size_t i = 0; i < MANY; i++) ask(&a[i], "1a");
    assert_int_equal(mlxr_residency_count(res).n_waiting, MANY);
    set_hold(false);
    for (size_t i = 0; i < MANY; i++) got(&a[i]);
    for (size_t i = 1; i < MANY; i++) assert_ptr_equal(a[i].m, a[0].m);
    assert_true(a[0].load_ns > 0);
    assert_int_equal(own.n_opened, 1);
    for (size_t i = 0; i < MANY; i++) let(&a[i], MLXR_KEEP_DEFAULT);
    ask(&a[0], "1a");
    assert_true(told(&a[0])); /* at once */
    assert_int_equal(a[0].load_ns, 0);
    let(&a[0], 0);
    WAIT_FOR(n_loaded() == 0);
    end();
}

static void test_keep_alive(void **state)
{
    struct asker a, b;
    mlxr_resident_info *list;
    size_t n;

    begin(options());
    ask(&a, "1a");
    ask(&b, "1b");
    got(&a);
    got(&b);
    let(&a, 60 * 1000000);
    let(&b, MLXR_KEEP_FOREVER);
    assert_ok(mlxr_residency_list(&list, &n, res, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "1b"); /* longest first */
    assert_true(list[0].expires_ns == MLXR_KEEP_FOREVER);
    assert_in_range(list[1].expires_ns, 1, 60 * 1000000);
    mlxr_resident_infos_free(list, n);
    WAIT_FOR(n_loaded() == 1);
    ask(&b, "1b");
    got(&b);
    let(&b, -1); /* for ever too */
    sleep_ms(50);
    assert_int_equal(n_loaded(), 1);
    assert_int_equal(mlxr_residency_unload(res, "1b"), 1);
    assert_int_equal(mlxr_residency_unload(res, "1c"), 0);
    WAIT_FOR(n_loaded() == 0);
    end();
}

static void test_unload_under_use(void **state)
{
    struct asker a, b;

    begin(options());
    ask(&a, "1a");
    got(&a);
    assert_int_equal(mlxr_residency_unload(res, "1a"), 1);
    assert_int_equal(mlxr_residency_unload(res, "1a"), 0);
    sleep_ms(20);
    assert_int_equal(own.n_closed, 0);
    ask(&b, "1a"); /* who comes now gets a new one */
    got(&b);
    assert_ptr_not_equal(a.m, b.m);
    let(&a, MLXR_KEEP_FOREVER); /* goes all the same */
    WAIT_FOR(owner_get(&own.n_closed) == 1);
    let(&b, 0);
    WAIT_FOR(n_loaded() == 0);
    end();
}

static void test_eviction(void **state)
{
    mlxr_residency_options o = options();
    struct asker a[4];
    const char *const names[] = {"1a", "1b", "1c"};
    const int64_t keep[] = {60000000000, 30000000000, MLXR_KEEP_FOREVER};

    begin(o);
    for (size_t i = 0; i < 3; i++) {
        ask(&a[i], names[i]);
        got(&a[i]);
        let(&a[i], keep[i]);
    }
    ask(&a[3], "1d"); /* the one that would expire first goes */
    got(&a[3]);
    assert_int_equal(n_loaded(), 3);
    ask(&a[0], "1a");
    assert_true(told(&a[0]));
    ask(&a[2], "1c");
    assert_true(told(&a[2]));
    let(&a[0], 0);
    let(&a[2], 0);
    let(&a[3], 0);
    WAIT_FOR(n_loaded() == 0);
    assert_int_equal(mlxr_residency_count(res).n_evictions, 1);
    end();
}

static void test_memory(void **state)
{
    mlxr_residency_options o = options();
    struct asker a, b, c;

    o.memory_bytes = 100;
    begin(o);
    ask(&a, "60a");
    got(&a);
    let(&a, MLXR_KEEP_FOREVER);
    ask(&b, "101b"); /* never fits: told at once, and the others stay */
    WAIT_FOR(told(&b));
    assert_int_equal(b.st, MLXR_E_LIMIT);
    assert_non_null(strstr(b.why, "101b"));
    assert_int_equal(n_loaded(), 1);
    ask(&b, "40b"); /* fits beside */
    got(&b);
    assert_int_equal(mlxr_residency_count(res).bytes, 100);
    ask(&c, "50c"); /* 60a is idle and enough */
    got(&c);
    assert_int_equal(mlxr_residency_count(res).bytes, 90);
    let(&b, 0);
    let(&c, 0);
    WAIT_FOR(n_loaded() == 0);
    assert_int_equal(mlxr_residency_count(res).bytes, 0);
    end();
}

static void test_nothing_goes_in_vain(void **state)
{
    mlxr_residency_options o = options();
    struct asker a, b, c;

    o.memory_bytes = 100;
    o.patience_ns = 1000000000;
    begin(o);
    ask(&a, "50a");
    ask(&b, "20b");
    got(&a);
    got(&b);
    let(&b, MLXR_KEEP_FOREVER);
    ask(&c, "70c"); /* without 50a, which is in use, 20b's place would not do */
    sleep_ms(60);
    assert_false(told(&c));
    assert_int_equal(n_loaded(), 2);
    assert_true(mlxr_residency_forget(res, c.ticket));
    let(&a, 0);
    assert_int_equal(mlxr_residency_unload(res, "20b"), 1);
    WAIT_FOR(n_loaded() == 0);
    end();
}

static void test_failing(void **state)
{
    struct asker good, a[3], b;

    begin(options());
    ask(&good, "1a");
    got(&good);
    set_hold(true);
    for (size_t i = 0; i < 3; i++) ask(&a[i], "0bad");
    ask(&b, "1b");
    set_hold(false);
    for (size_t i = 0; i < 3; i++) {
        WAIT_FOR(told(&a[i]));
        assert_int_equal(a[i].st, MLXR_E_CORRUPT);
        assert_string_equal(a[i].why, "is damaged");
    }
    got(&b); /* the next in line */
    ask(&a[0], "0noplan");
    WAIT_FOR(told(&a[0]));
    assert_int_equal(a[0].st, MLXR_E_FORMAT);
    assert_int_equal(n_loaded(), 2);
    assert_int_equal(mlxr_residency_count(res).n_failed_loads, 1);
    let(&good, 0);
    let(&b, 0);
    end();
}

static void test_queue_is_full(void **state)
{
    mlxr_residency_options o = options();
    struct asker a, b, c;

    o.max_waiting = 2;
    begin(o);
    set_hold(true);
    ask(&a, "1a");
    ask(&b, "1b");
    assert_int_equal(ask_key(&c, key_of("1c")), MLXR_E_BUSY);
    assert_false(told(&c));
    set_hold(false);
    got(&a);
    got(&b);
    let(&a, 0);
    let(&b, 0);
    end();
}

static void test_late(void **state)
{
    mlxr_residency_options o = options();
    struct asker a, b, c;

    o.wait_ns = 50 * 1000000u;
    o.patience_ns = 1000000000;
    o.max_loaded = 1;
    begin(o);
    ask(&a, "1a");
    got(&a);
    ask(&b, "1b"); /* 1a is in its way */
    ask(&c, "1a"); /* and served at once */
    assert_true(told(&c));
    WAIT_FOR(told(&b));
    assert_int_equal(b.st, MLXR_E_BUSY);
    let(&a, 0);
    let(&c, 0);
    WAIT_FOR(n_loaded() == 0);
    set_hold(true);
    ask(&b, "1b"); /* its own opening is */
    WAIT_FOR(told(&b));
    assert_int_equal(b.st, MLXR_E_BUSY);
    set_hold(false);
    end();
}

static void test_makes_way(void **state)
{
    mlxr_residency_options o = options();
    struct asker a, b, more;

    o.max_loaded = 1;
    begin(o);
    ask(&a, "1a");
    got(&a);
    ask(&b, "1b");
    /* 1a never is without a user, until its patience is over and nobody new gets it. */
    for (int i = 0;; i++) {
        ask(&more, "1a");
        if (!told(&more)) break;
        let(&a, MLXR_KEEP_FOREVER);
        a = more;
        sleep_ms(2);
        if (i > 5000) fail_msg("1b starves");
    }
    assert_false(told(&b));
    let(&a, MLXR_KEEP_FOREVER);
    got(&b);
    assert_false(told(&more)); /* in turn */
    let(&b, MLXR_KEEP_FOREVER);
    got(&more);
    let(&more, 0);
    WAIT_FOR(n_loaded() == 0);
    end();
}

static void test_way_not_needed(void **state)
{
    mlxr_residency_options o = options();
    struct asker a, b, c;

    o.max_loaded = 1;
    begin(o);
    ask(&a, "1a");
    got(&a);
    ask(&b, "1b");
    for (;;) { /* until 1a makes way */
        ask(&c, "1a");
        if (!told(&c)) break;
        let(&c, MLXR_KEEP_FOREVER);
        sleep_ms(2);
    }
    assert_true(mlxr_residency_forget(res, b.ticket));
    got(&c); /* of the same model */
    assert_ptr_equal(c.m, a.m);
    let(&a, 0);
    let(&c, 0);
    WAIT_FOR(n_loaded() == 0);
    end();
}

static void test_forget(void **state)
{
    struct asker a, b;

    begin(options());
    set_hold(true);
    ask(&a, "1a");
    WAIT_FOR(owner_get(&own.n_planned) == 1);
    sleep_ms(5);
    assert_true(mlxr_residency_forget(res, a.ticket)); /* the opening ends */
    assert_false(mlxr_residency_forget(res, a.ticket));
    ask(&b, "1a"); /* and is begun anew for who comes then */
    sleep_ms(20);
    assert_false(told(&b));
    set_hold(false);
    got(&b);
    assert_false(told(&a));
    let(&b, 0);
    end();
}

static void test_another_context_and_digest(void **state)
{
    struct asker a, b, c;
    mlxr_resident_key key = key_of("1a");

    begin(options());
    ask(&a, "1a");
    got(&a);
    key.context_length = 64;
    assert_ok(ask_key(&b, key), &err);
    got(&b);
    assert_ptr_not_equal(a.m, b.m);
    let(&a, MLXR_KEEP_FOREVER); /* has had its time */
    WAIT_FOR(n_loaded() == 1);
    key.digest = "e";
    assert_ok(ask_key(&c, key), &err);
    got(&c);
    let(&b, MLXR_KEEP_FOREVER);
    WAIT_FOR(n_loaded() == 1);
    let(&c, 0);
    WAIT_FOR(n_loaded() == 0);
    end();
}

static void test_end_while_they_wait(void **state)
{
    struct asker a, b;

    begin(options());
    set_hold(true);
    ask(&a, "1a");
    ask(&b, "1b");
    end();
    assert_true(told(&a) && told(&b));
    assert_int_equal(a.st, MLXR_E_CANCELLED);
    assert_int_equal(b.st, MLXR_E_CANCELLED);
}

/* ---- many at once ---- */

static int n_served, n_forgotten;

static void *storm(void *ud)
{
    unsigned seed = (unsigned)(uintptr_t)ud;
    static const char *const names[] = {"30a", "30b", "30c", "40d", "0bad", "101x"};

    for (int i = 0; i < 300; i++) {
        struct asker a = {.lock = PTHREAD_MUTEX_INITIALIZER};
        mlxr_resident_key key = key_of(names[rand_r(&seed) % 6]);
        if (rand_r(&seed) % 8 == 0) key.context_length = 5;
        if (mlxr_residency_acquire(res, &key, on_ready, &a, &a.ticket, NULL) != MLXR_OK) continue;
        if (rand_r(&seed) % 6 == 0 && mlxr_residency_forget(res, a.ticket)) {
            __atomic_add_fetch(&n_forgotten, 1, __ATOMIC_RELAXED);
            continue;
        }
        while (!told(&a)) sleep_ms(1);
        if (!a.m) continue;
        struct model *m = mlxr_resident_model(a.m);
        __atomic_add_fetch(&m->users, 1, __ATOMIC_SEQ_CST);
        if (strcmp(m->name, key.name) != 0) abort();
        if (rand_r(&seed) % 4 == 0) sleep_ms(1);
        __atomic_add_fetch(&n_served, 1, __ATOMIC_RELAXED);
        __atomic_sub_fetch(&m->users, 1, __ATOMIC_SEQ_CST);
        mlxr_resident_release(a.m, rand_r(&seed) % 3 == 0 ? 0 : MLXR_KEEP_DEFAULT);
        if (rand_r(&seed) % 20 == 0) (void)mlxr_residency_unload(res, key.name);
    }
    return NULL;
}

static void test_storm(void **state)
{
    mlxr_residency_options o = options();
    pthread_t threads[MANY];

    o.memory_bytes = 100;
    o.patience_ns = 1000000;
    begin(o);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm, (void *)(i + 1)), 0);
    for (size_t i = 0; i < MANY; i++) pthread_join(threads[i], NULL);
    assert_true(n_served > 500);
    assert_int_equal(mlxr_residency_count(res).n_waiting, 0);
    assert_in_range(own.n_most, 1, 3);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads_once),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_unload_under_use),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_nothing_goes_in_vain),
        cmocka_unit_test(test_failing),
        cmocka_unit_test(test_queue_is_full),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_makes_way),
        cmocka_unit_test(test_way_not_needed),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_another_context_and_digest),
        cmocka_unit_test(test_end_while_they_wait),
        cmocka_unit_test(test_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
