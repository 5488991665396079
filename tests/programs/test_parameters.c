/* The table of parameters of recipes and mlxr.json (base/parameters.h) and that of the programs' options say the same: names, kinds, ranges,
 * and the fields they set. */
#include "../../programs/parameters.h"

#include "base/parameters.h"
#include "runner/settings.h"
#include "test.h"

/* Of one request alone: a model has no say in it. */
static bool is_of_a_request(const char *name)
{
    return strcmp(name, "num_choices") == 0;
}

static void ranges(void **state)
{
    struct cli_option options[PARAMETERS_N];
    struct parameters p;
    const char *name, *help;
    mlxr_buf value = {0};

    (void)state;
    parameters_init(&p);
    parameters_options(options, &p);
    for (size_t i = 0; parameters_at(&p, i, &name, &help, &value); i++) {
        const mlxr_parameter *q = mlxr_parameter_find(name);
        const struct cli_option *o = &options[i];
        cli_kind kind;
        if (is_of_a_request(name)) {
            assert_null(q);
            continue;
        }
        if (!q) fail_msg("recipes have no parameter %s", name);
        kind = q->kind == MLXR_PARAMETER_REAL                                       ? CLI_REAL
               : q->kind == MLXR_PARAMETER_OVERFLOW                                 ? CLI_CHOICE
               : q->kind >= MLXR_PARAMETER_STOP && q->kind <= MLXR_PARAMETER_BIASES ? CLI_LIST
                                                                                    : CLI_INT;
        if (kind != o->kind || q->min != o->min || q->max != o->max)
            fail_msg("%s: kind %d from %g to %g in recipes, kind %d from %g to %g of the programs", name,
                     (int)kind, q->min, q->max, (int)o->kind, o->min, o->max);
    }
    mlxr_buf_clear(&value);
}

/* What recipes have and programs have not: how a model is opened, and what is passed over. */
static void nothing_but_these(void **state)
{
    struct parameters p;
    const mlxr_parameter *q;
    mlxr_error err;

    (void)state;
    parameters_init(&p);
    for (size_t i = 0; (q = mlxr_parameter_at(i)) != NULL; i++)
        if (q->kind != MLXR_PARAMETER_CONTEXT && q->kind != MLXR_PARAMETER_OTHER &&
            !parameters_unset(&p, q->name, &err))
            fail_msg("the programs have no parameter %s", q->name);
}

/* A number near each range's end lands in the same field by both ways. */
static void fields(void **state)
{
    const mlxr_parameter *q;

    (void)state;
    for (size_t i = 0; (q = mlxr_parameter_at(i)) != NULL; i++) {
        double x = q->max > 1000 ? 17 : q->max;
        mlxr_request by_option = mlxr_request_default(), by_recipe = mlxr_request_default();
        struct parameters p;
        mlxr_settings s = {0};
        mlxr_error err;
        char text[64];
        if (q->kind > MLXR_PARAMETER_SEED) continue;
        memset(&by_option, 0, sizeof by_option); /* padding too */
        memset(&by_recipe, 0, sizeof by_recipe);
        snprintf(text, sizeof text, "%g", x);
        parameters_init(&p);
        assert_true(parameters_set(&p, q->name, text, &err));
        assert_ok(parameters_apply(&p, &by_option, &err), &err);
        s.parameters = q->kind == MLXR_PARAMETER_REAL ? json_pack("{s:f}", q->name, x)
                                                      : json_pack("{s:I}", q->name, (json_int_t)x);
        mlxr_settings_apply(&s, &by_recipe);
        if (memcmp(&by_option, &by_recipe, sizeof by_option) != 0)
            fail_msg("%s is another field in mlxr.json than of the options", q->name);
        json_decref((json_t *)(uintptr_t)s.parameters);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges),
        cmocka_unit_test(nothing_but_these),
        cmocka_unit_test(fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
