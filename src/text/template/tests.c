/* The tests of "is". */
#include "text/template/template.h"

#define TEST(fn_name, expr)                                      \
    static val fn_name(rt *r, val self, val *a, const args *raw) \
    {                                                            \
        (void)r;                                                 \
        (void)a;                                                 \
        (void)raw;                                               \
        return v_bool(expr);                                     \
    }

TEST(t_defined, self.type != T_UNDEF)
TEST(t_undefined, self.type == T_UNDEF)
TEST(t_none, self.type == T_NONE)
TEST(t_boolean, self.type == T_BOOL)
TEST(t_true, self.type == T_BOOL && self.i)
TEST(t_false, self.type == T_BOOL && !self.i)
TEST(t_integer, self.type == T_INT)
TEST(t_float, self.type == T_FLOAT)
TEST(t_number, is_number(self))
TEST(t_string, self.type == T_STR)
TEST(t_mapping, self.type == T_DICT)
TEST(t_iterable, is_iterable(self))
TEST(t_callable, is_callable(self))
TEST(t_escaped, is_markup(self))
TEST(t_sameas, same(self, a[0]))

static val remainder_is(rt *r, val self, val by, int64_t want)
{
    val m = arith(r, N_MOD, self, by);
    int c;
    if (IS_ERR(m)) return m;
    c = equal(r, m, v_int(want));
    return c < 0 ? v_err() : v_bool(c);
}

static val t_odd(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return remainder_is(r, self, v_int(2), 1);
}

static val t_even(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return remainder_is(r, self, v_int(2), 0);
}

static val t_divisibleby(rt *r, val self, val *a, const args *raw)
{
    (void)raw;
    return remainder_is(r, self, a[0], 0);
}

static val name_known(rt *r, val self, bool filter)
{
    uint64_t h;
    if (!hash_value(r, self, &h)) return v_err(); /* the reference looks it up in a dict */
    if (self.type != T_STR) return v_bool(false);
    return v_bool((filter ? filter_find : test_find)(self.s->s, self.s->n) != NULL);
}

static val t_filter(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return name_known(r, self, true);
}

static val t_test(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return name_known(r, self, false);
}

static val cased(rt *r, val self, const char *name)
{
    val s = to_str(r, self);
    const builtin *fn = method_find(T_STR, name, strlen(name));
    return IS_ERR(s) || !fn ? v_err() : fn->fn(r, s, NULL, NULL);
}

static val t_lower(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return cased(r, self, "islower");
}

static val t_upper(rt *r, val self, val *a, const args *raw)
{
    (void)a;
    (void)raw;
    return cased(r, self, "isupper");
}

static val t_sequence(rt *r, val self, val *a, const args *raw)
{
    (void)r;
    (void)a;
    (void)raw;
    switch ((vtype)self.type) {
    case T_STR:
    case T_BYTES:
    case T_LIST:
    case T_TUPLE:
    case T_DICT:
    case T_RANGE:
    case T_UNDEF: return v_bool(true);
    default: return v_bool(false);
    }
}

#define COMPARE(fn_name, op, left, right)                        \
    static val fn_name(rt *r, val self, val *a, const args *raw) \
    {                                                            \
        int c = compare(r, op, left, right);                     \
        (void)raw;                                               \
        return c < 0 ? v_err() : v_bool(c);                      \
    }
COMPARE(t_eq, CMP_EQ, self, a[0])
COMPARE(t_ne, CMP_NE, self, a[0])
COMPARE(t_lt, CMP_LT, self, a[0])
COMPARE(t_le, CMP_LE, self, a[0])
COMPARE(t_gt, CMP_GT, self, a[0])
COMPARE(t_ge, CMP_GE, self, a[0])
COMPARE(t_in, CMP_IN, self, a[0])

#define NONE(name, fn)     \
    {                      \
        name, fn, 0, 0, 0, \
        {                  \
            0              \
        }                  \
    }
#define POS(name, fn)                 \
    {                                 \
        name, fn, 1, 1, BIND_POSONLY, \
        {                             \
            "b"                       \
        }                             \
    }
const builtin test_table[] = {
    NONE("boolean", t_boolean),
    NONE("callable", t_callable),
    NONE("defined", t_defined),
    {"divisibleby", t_divisibleby, 1, 1, 0, {"num"}},
    POS("!=", t_ne),
    POS("<", t_lt),
    POS("<=", t_le),
    POS("==", t_eq),
    POS(">", t_gt),
    POS(">=", t_ge),
    POS("eq", t_eq),
    POS("equalto", t_eq),
    NONE("escaped", t_escaped),
    NONE("even", t_even),
    NONE("false", t_false),
    NONE("filter", t_filter),
    NONE("float", t_float),
    POS("ge", t_ge),
    POS("greaterthan", t_gt),
    POS("gt", t_gt),
    {"in", t_in, 1, 1, 0, {"seq"}},
    NONE("integer", t_integer),
    NONE("iterable", t_iterable),
    POS("le", t_le),
    POS("lessthan", t_lt),
    NONE("lower", t_lower),
    POS("lt", t_lt),
    NONE("mapping", t_mapping),
    POS("ne", t_ne),
    NONE("none", t_none),
    NONE("number", t_number),
    NONE("odd", t_odd),
    {"sameas", t_sameas, 1, 1, 0, {"other"}},
    NONE("sequence", t_sequence),
    NONE("string", t_string),
    NONE("test", t_test),
    NONE("true", t_true),
    NONE("undefined", t_undefined),
    NONE("upper", t_upper),
};
const size_t n_tests = MLXR_COUNT(test_table);

const builtin *test_find(const char *name, size_t n)
{
    for (size_t i = 0; i < n_tests; i++)
        if (strlen(test_table[i].name) == n && memcmp(test_table[i].name, name, n) == 0)
            return &test_table[i];
    return NULL;
}

val call_test_named(rt *r, val name, val x, const args *a)
{
    const builtin *fn;
    uint64_t h;
    sb b = {0};
    if (!hash_value(r, name, &h)) return v_err();
    fn = name.type == T_STR ? test_find(name.s->s, name.s->n) : NULL;
    if (fn) return call_builtin(r, fn, x, a);
    if (!write_repr(r, &b, name)) return v_err();
    return raise(r, EXC_RUNTIME, "No test named %.*s.", (int)(b.n < 200 ? b.n : 200), b.p);
}
