/* What is found out about templates by rendering them: one small template for each answer. */
#include <unistd.h>

#include "base/fs.h"
#include "test.h"
#include "text/capabilities.h"

/* Everything a template may do, as ChatML models write it. */
static const char everything[] =
    "{% if tools %}tools:{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{{ c.text }}{% endfor %}{% "
    "endif %}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}{% endif %}";

static mlxr_template_capabilities of_source(const char *source)
{
    mlxr_template_capabilities c;
    mlxr_chat_template *ct;
    char *path = mlxr_asprintf("capabilities_%ld.jinja", (long)getpid());
    mlxr_error err;

    assert_non_null(path);
    assert_ok(mlxr_file_write(path, source, strlen(source), &err), &err);
    assert_ok(mlxr_chat_template_open(&ct, path, &err), &err);
    remove(path);
    free(path);
    assert_ok(mlxr_chat_template_capabilities(&c, ct, NULL, &err), &err);
    mlxr_chat_template_close(ct);
    return c;
}

static void all_of_it(void **state)
{
    mlxr_template_capabilities c = of_source(everything);
    (void)state;

    assert_int_equal(c.user, MLXR_CAN);
    assert_string_equal(c.why, "");
    assert_int_equal(c.generation_prompt, MLXR_CAN);
    assert_int_equal(c.system, MLXR_CAN);
    assert_int_equal(c.tools, MLXR_CAN);
    assert_int_equal(c.tool_calls, MLXR_CAN);
    assert_int_equal(c.tool_results, MLXR_CAN);
    assert_int_equal(c.content_parts, MLXR_CAN);
    assert_int_equal(c.reasoning, MLXR_CAN);
    assert_string_equal(c.thinking_switch, "enable_thinking");
}

static void little_of_it(void **state)
{
    mlxr_template_capabilities c = of_source(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        "{% if m.role == 'user' %}{{ m.content + '' }}{% endif %}{% endfor %}");
    (void)state;

    assert_int_equal(c.user, MLXR_CAN);
    assert_int_equal(c.generation_prompt, MLXR_CAN_NOT);
    assert_int_equal(c.system, MLXR_CAN_REFUSE);
    assert_int_equal(c.tools, MLXR_CAN_NOT);
    assert_int_equal(c.tool_calls, MLXR_CAN_NOT);
    assert_int_equal(c.tool_results, MLXR_CAN_NOT);
    assert_int_equal(c.content_parts, MLXR_CAN_REFUSE); /* a list and a string do not add */
    assert_int_equal(c.reasoning, MLXR_CAN_NOT);
    assert_null(c.thinking_switch);
    assert_string_equal(mlxr_capability_name(c.system), "refused");
    assert_string_equal(mlxr_capability_name(c.tools), "no");
    assert_string_equal(mlxr_capability_name(c.user), "yes");
}

/* A system text that is written into the first user's turn is understood; one that is passed over is not. */
static void system_in_the_users_turn(void **state)
{
    static const char folded[] =
        "{% set s = messages[0].content if messages[0].role == 'system' else '' %}"
        "{% for m in messages if m.role == 'user' %}{{ s }}{{ m.content }}{% endfor %}";
    static const char dropped[] = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
    (void)state;

    assert_int_equal(of_source(folded).system, MLXR_CAN);
    assert_int_equal(of_source(dropped).system, MLXR_CAN_NOT);
}

static void switches(void **state)
{
    (void)state;
    assert_string_equal(
        of_source("{{ messages[0].content }}{% if thinking %}<think>{% endif %}").thinking_switch,
        "thinking");
    assert_string_equal(of_source("{{ messages[0].content }} {{ reasoning_effort }}").thinking_switch,
                        "reasoning_effort");
    assert_null(of_source("{{ messages[0].content }} {{ verbosity }}").thinking_switch);
}

/* Templates that fail, say nothing, or never end: an answer all the same, with the reason. */
static void broken_ones(void **state)
{
    mlxr_template_capabilities c = of_source("{{ raise_exception('only on Sundays') }}");
    (void)state;

    assert_int_equal(c.user, MLXR_CAN_REFUSE);
    assert_non_null(strstr(c.why, "only on Sundays"));
    c = of_source("hello");
    assert_int_equal(c.user, MLXR_CAN_NOT);
    assert_string_equal(c.why, "the user's text is not in the prompt");
    c = of_source(
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}");
    assert_int_equal(c.user, MLXR_CAN_REFUSE);
    c = of_source("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}");
    assert_int_equal(c.user, MLXR_CAN_REFUSE);
}

/* What works only in another form than the first tried. */
static void other_forms(void **state)
{
    mlxr_template_capabilities c = of_source(
        "{% for m in messages %}{{ m.role }}{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}");
    (void)state;

    assert_int_equal(c.tool_calls, MLXR_CAN); /* with the arguments as text */
    assert_int_equal(c.tool_results, MLXR_CAN);
    assert_false(c.needs_tools);
    c = of_source("{{ tools[0].function.name }}{{ messages[0].content }}");
    assert_int_equal(c.user, MLXR_CAN);
    assert_true(c.needs_tools);
    assert_string_equal(c.why, "");
    c = of_source("{% for part in messages[0].content %}{{ part.text }}{% endfor %}");
    assert_int_equal(c.user, MLXR_CAN_NOT);
    assert_int_equal(c.content_parts, MLXR_CAN);
    assert_string_equal(c.why, "text is in the prompt only as a list of parts");
}

/* With tools the template of that name is the one that counts, when none is named. */
static void named_ones(void **state)
{
    mlxr_template_capabilities c;
    mlxr_chat_template *ct;
    mlxr_error err;
    (void)state;

    assert_ok(mlxr_chat_template_open(&ct, MLXR_TEST_DIR "/models/jinja", &err), &err);
    assert_ok(mlxr_chat_template_capabilities(&c, ct, "default", &err), &err);
    assert_int_equal(c.user, MLXR_CAN);
    assert_int_equal(c.tools, MLXR_CAN_NOT);
    assert_ok(mlxr_chat_template_capabilities(&c, ct, "no such name", &err), &err);
    assert_int_equal(c.user, MLXR_CAN_REFUSE);
    mlxr_chat_template_close(ct);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it),
        cmocka_unit_test(little_of_it),
        cmocka_unit_test(system_in_the_users_turn),
        cmocka_unit_test(switches),
        cmocka_unit_test(broken_ones),
        cmocka_unit_test(named_ones),
        cmocka_unit_test(other_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
