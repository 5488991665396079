/* A server without a socket, over the mock and over a store with a tiny model: what the other tests of endpoints stand on. */
#include "serving.h"

static void test_mock(void **state)
{
    json_t *v;
    mlxr_exchange x;

    assert_int_equal(serving_begin_mock(), 0);
    v = post_json("/api/generate", J("{'model':'m','prompt':'one two','stream':false}"), 200);
    assert_string_equal(text_at(v, "response"), "You said: one two");
    json_decref(v);
    x = post("/api/generate", J("{'model':'m','prompt':'one two'}"));
    assert_int_equal(x.status, 200);
    assert_non_null(header_of(&x, "x-request-id"));
    v = stream_json(&x);
    assert_in_range(json_array_size(v), 4, 6);
    json_decref(v);
    assert_int_equal(serving_end(), 0);
}

static void test_store(void **state)
{
    json_t *v;

    assert_int_equal(serving_begin_store(), 0);
    v = post_json("/api/generate",
                  J("{'model':'tiny','prompt':'one two','stream':false,'options':{'num_predict':3}}"), 200);
    assert_in_range(int_at(v, "eval_count"), 1, 3);
    json_decref(v);
    refuses("/api/generate", J("{'model':'other','prompt':'x'}"), 404, "model 'other' not found");
    assert_int_equal(serving_end(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mock),
        cmocka_unit_test(test_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
