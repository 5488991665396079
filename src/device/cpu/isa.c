/* The tables of kernels and which of them this machine can run. */
#include "device/cpu/ints.h"
#include "device/cpu/kernels.h"

#ifdef MLXR_CPU_X86
#include <cpuid.h>
#endif
#ifdef MLXR_CPU_ARM
#ifdef __APPLE__
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

#define TABLE(name, suffix, integers, halves)                                                               \
    {                                                                                                       \
        .isa = name, .ints = integers, .converts_halves = halves, .linear = mlxr_cpu_linear_##suffix,       \
        .attend = mlxr_cpu_attend_##suffix, .attend_span = mlxr_cpu_attend_span_##suffix,                   \
        .attend_fold = mlxr_cpu_attend_fold_##suffix, .kv_store = mlxr_cpu_kv_store_##suffix,               \
        .conv = mlxr_cpu_conv_##suffix, .delta = mlxr_cpu_delta_##suffix,                                   \
        .rms_norm = mlxr_cpu_rms_norm_##suffix, .layer_norm = mlxr_cpu_layer_norm_##suffix,                 \
        .rope = mlxr_cpu_rope_##suffix, .act_mul = mlxr_cpu_act_mul_##suffix, .add = mlxr_cpu_add_##suffix, \
        .scale = mlxr_cpu_scale_##suffix, .softcap = mlxr_cpu_softcap_##suffix,                             \
        .likeliest = mlxr_cpu_likeliest_##suffix, .mix = mlxr_cpu_mix_##suffix,                             \
    }

static const mlxr_cpu_kernels baseline = TABLE("baseline", base, NULL, false);

#ifdef MLXR_CPU_X86
static const mlxr_cpu_kernels avx2 = TABLE("avx2", avx2, &mlxr_ints_avx2, true),
                              avxvnni = TABLE("avxvnni", avx2, &mlxr_ints_avxvnni, true),
                              avx512 = TABLE("avx512", avx512, NULL, true),
                              vnni = TABLE("vnni", avx512, &mlxr_ints_vnni, true);

/* The builtins look at what the system saves of the registers too; not every compiler's knows f16c, which uses the
 * same registers as avx2. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

/* Its products on the registers of avx2, in processors that have no avx512; not every compiler knows its name either. */
static bool has_avxvnni(void)
{
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi");
}
#endif

#ifdef MLXR_CPU_ARM
static const mlxr_cpu_kernels neon = TABLE("neon", neon, NULL, true),
                              dotprod = TABLE("dotprod", neon, &mlxr_ints_dotprod, true);

/* sdot and udot. Where there is no way to ask, they are taken not to be there. */
static bool has_dotprod(void)
{
#if defined(__APPLE__)
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, NULL, 0) == 0 && has;
#elif defined(__linux__)
    enum { ASIMDDP = 1 << 20 }; /* HWCAP_ASIMDDP */
    return (getauxval(AT_HWCAP) & ASIMDDP) != 0;
#else
    return false;
#endif
}
#endif

const mlxr_cpu_kernels *mlxr_cpu_kernels_at(size_t i)
{
    const mlxr_cpu_kernels *all[5];
    size_t n = 0;

#ifdef MLXR_CPU_X86
    __builtin_cpu_init();
    if (has_avx512() && __builtin_cpu_supports("avx512vnni")) all[n++] = &vnni;
    if (has_avx512()) all[n++] = &avx512;
    if (has_avxvnni()) all[n++] = &avxvnni;
    if (has_avx2()) all[n++] = &avx2;
#endif
#ifdef MLXR_CPU_ARM
    if (has_dotprod()) all[n++] = &dotprod;
    all[n++] = &neon; /* every 64-bit ARM */
#endif
    all[n++] = &baseline;
    return i < n ? all[i] : NULL;
}

mlxr_status mlxr_cpu_kernels_get(const mlxr_cpu_kernels **out, const char *name, mlxr_error *err)
{
    const mlxr_cpu_kernels *k;

    *out = NULL;
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        if (!name || strcmp(name, k->isa) == 0) {
            *out = k;
            return MLXR_OK;
        }
    }
    mlxr_fail(err, MLXR_E_DEVICE, "cpu: no instruction set \"%s\" on this machine; it has", name);
    for (size_t i = 0; (k = mlxr_cpu_kernels_at(i)) != NULL; i++) {
        mlxr_error_append(err, "%s %s", i ? "," : "", k->isa);
    }
    return MLXR_E_DEVICE;
}
