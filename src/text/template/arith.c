/* The binary and unary operators of Python's numbers and sequences. Integers have 64 bits: a result beyond them is
 * an error that says so, where Python goes on. */
#include <errno.h>
#include <math.h>

#include "text/template/template.h"

static const char *op_sign(node_kind op)
{
    switch (op) {
    case N_ADD: return "+";
    case N_SUB: return "-";
    case N_MUL: return "*";
    case N_DIV: return "/";
    case N_FLOORDIV: return "//";
    case N_MOD: return "%";
    default: return "** or pow()";
    }
}

static val too_big(rt *r)
{
    return raise(r, EXC_UNSUPPORTED, "an integer beyond 64 bits is not supported");
}

static double as_float(val v)
{
    return v.type == T_FLOAT ? v.f : (double)v.i;
}

static val int_pow(rt *r, int64_t base, int64_t e)
{
    int64_t result = 1;
    if (e < 0) {
        if (base == 0) return raise(r, EXC_ZERO_DIVISION, "0.0 cannot be raised to a negative power");
        return v_float(pow((double)base, (double)e));
    }
    while (e) {
        if ((e & 1) && __builtin_mul_overflow(result, base, &result)) return too_big(r);
        e >>= 1;
        if (e && __builtin_mul_overflow(base, base, &base)) return too_big(r);
    }
    return v_int(result);
}

static val float_pow(rt *r, double a, double b)
{
    double x;
    if (a == 0 && b < 0) return raise(r, EXC_ZERO_DIVISION, "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
        return raise(r, EXC_UNSUPPORTED, "complex numbers are not supported");
    x = pow(a, b);
    if (isinf(x) && isfinite(a) && isfinite(b))
        return raise(r, EXC_OVERFLOW, "(34, 'Numerical result out of range')");
    return v_float(x);
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0) {
        if ((b < 0) != (m < 0)) m += b;
    } else {
        m = copysign(0.0, b);
    }
    return m;
}

static double float_floordiv(double a, double b)
{
    double m = fmod(a, b), d = (a - m) / b, f;
    if (m != 0 && (b < 0) != (m < 0)) d -= 1;
    if (d == 0) return copysign(0.0, a / b);
    f = floor(d);
    return d - f > 0.5 ? f + 1 : f;
}

static val int_arith(rt *r, node_kind op, int64_t a, int64_t b)
{
    int64_t x, q;
    switch (op) {
    case N_ADD: return __builtin_add_overflow(a, b, &x) ? too_big(r) : v_int(x);
    case N_SUB: return __builtin_sub_overflow(a, b, &x) ? too_big(r) : v_int(x);
    case N_MUL: return __builtin_mul_overflow(a, b, &x) ? too_big(r) : v_int(x);
    case N_DIV:
        if (b == 0) return raise(r, EXC_ZERO_DIVISION, "division by zero");
        return v_float((double)((long double)a / (long double)b));
    case N_FLOORDIV:
    case N_MOD:
        if (b == 0)
            return raise(r, EXC_ZERO_DIVISION,
                         op == N_MOD ? "integer modulo by zero" : "integer division or modulo by zero");
        if (b == -1) {
            if (op == N_MOD) return v_int(0);
            return __builtin_sub_overflow((int64_t)0, a, &x) ? too_big(r) : v_int(x);
        }
        q = a / b;
        x = a % b;
        if (x != 0 && (x < 0) != (b < 0)) {
            x += b;
            q--;
        }
        return v_int(op == N_MOD ? x : q);
    default: return int_pow(r, a, b);
    }
}

static val float_arith(rt *r, node_kind op, double a, double b)
{
    switch (op) {
    case N_ADD: return v_float(a + b);
    case N_SUB: return v_float(a - b);
    case N_MUL: return v_float(a * b);
    case N_DIV:
        if (b == 0) return raise(r, EXC_ZERO_DIVISION, "float division by zero");
        return v_float(a / b);
    case N_FLOORDIV:
        if (b == 0) return raise(r, EXC_ZERO_DIVISION, "float floor division by zero");
        return v_float(float_floordiv(a, b));
    case N_MOD:
        if (b == 0) return raise(r, EXC_ZERO_DIVISION, "float modulo");
        return v_float(float_mod(a, b));
    default: return float_pow(r, a, b);
    }
}

static bool is_sequence(val v)
{
    return v.type == T_STR || v.type == T_LIST || v.type == T_TUPLE || v.type == T_BYTES;
}

static val add_sequences(rt *r, val a, val b)
{
    if (a.type == T_STR && b.type == T_STR) {
        if (is_markup(a) || is_markup(b)) {
            val x = escape_html(r, a), y = escape_html(r, b);
            if (IS_ERR(x) || IS_ERR(y)) return v_err();
            return v_markup(str_concat(r, x, y));
        }
        return str_concat(r, a, b);
    }
    if (a.type == b.type && (a.type == T_LIST || a.type == T_TUPLE)) {
        list *l = list_new(r, a.l->n + b.l->n);
        val v = a;
        if (!l || !step(r, (a.l->n + b.l->n) / 16)) return v_err();
        if (a.l->n) memcpy(l->v, a.l->v, a.l->n * sizeof *l->v);
        if (b.l->n) memcpy(l->v + a.l->n, b.l->v, b.l->n * sizeof *l->v);
        l->n = a.l->n + b.l->n;
        v.l = l;
        v.flag = 0;
        return v;
    }
    if (a.type == T_BYTES && b.type == T_BYTES) {
        val v = str_concat(r, a, b);
        if (!IS_ERR(v)) v.type = T_BYTES;
        return v;
    }
    if (is_markup(a))
        return raise(r, EXC_TYPE, "unsupported operand type(s) for +: 'Markup' and '%s'", type_name(b));
    if (a.type == T_BYTES) return raise(r, EXC_TYPE, "can't concat %s to bytes", type_name(b));
    return raise(r, EXC_TYPE, "can only concatenate %s (not \"%s\") to %s",
                 a.type == T_STR ? "str" : type_name(a), type_name(b),
                 a.type == T_STR ? "str" : type_name(a));
}

static val repeat(rt *r, val seq, val n)
{
    list *l;
    size_t total, k;
    if (!is_int_like(n))
        return raise(r, EXC_TYPE, "can't multiply sequence by non-int of type '%s'", type_name(n));
    if (seq.type == T_STR || seq.type == T_BYTES) {
        val v = str_repeat(r, seq, n.i);
        if (IS_ERR(v)) return v;
        v.type = seq.type;
        v.flag = seq.flag & F_MARKUP;
        return v;
    }
    k = n.i > 0 ? (size_t)n.i : 0;
    if (!mlxr_mul_size(&total, seq.l->n, k)) total = SIZE_MAX;
    l = list_new(r, total);
    if (!l || !step(r, total / 16)) return v_err();
    for (size_t i = 0; seq.l->n && i < k; i++) memcpy(l->v + i * seq.l->n, seq.l->v, seq.l->n * sizeof *l->v);
    l->n = total;
    seq.l = l;
    seq.flag = 0;
    return seq;
}

val arith(rt *r, node_kind op, val a, val b)
{
    if (is_int_like(a) && is_int_like(b)) return int_arith(r, op, a.i, b.i);
    if (is_number(a) && is_number(b)) return float_arith(r, op, as_float(a), as_float(b));
    if (IS_ERR(a) || IS_ERR(b)) return v_err();
    if (op == N_MOD && a.type == T_STR) return percent_format(r, a, b);
    if (a.type == T_UNDEF) return raise_undef(r, a.u);
    if (b.type == T_UNDEF) return raise_undef(r, b.u);
    if (op == N_ADD && is_sequence(a)) return add_sequences(r, a, b);
    if (op == N_MUL && is_sequence(a)) return repeat(r, a, b);
    if (op == N_MUL && is_sequence(b)) return repeat(r, b, a);
    if ((op == N_SUB && (a.type == T_VIEW || b.type == T_VIEW)) || (op == N_MOD && a.type == T_BYTES))
        return raise(r, EXC_UNSUPPORTED, "sets and bytes formats are not supported");
    return raise(r, EXC_TYPE, "unsupported operand type(s) for %s: '%s' and '%s'", op_sign(op), type_name(a),
                 type_name(b));
}

val negate(rt *r, val v)
{
    int64_t x;
    if (is_int_like(v)) return __builtin_sub_overflow((int64_t)0, v.i, &x) ? too_big(r) : v_int(x);
    if (v.type == T_FLOAT) return v_float(-v.f);
    if (v.type == T_UNDEF) return raise_undef(r, v.u);
    if (IS_ERR(v)) return v;
    return raise(r, EXC_TYPE, "bad operand type for unary -: '%s'", type_name(v));
}

val positive(rt *r, val v)
{
    if (is_int_like(v)) return v_int(v.i);
    if (v.type == T_FLOAT || IS_ERR(v)) return v;
    if (v.type == T_UNDEF) return raise_undef(r, v.u);
    return raise(r, EXC_TYPE, "bad operand type for unary +: '%s'", type_name(v));
}
