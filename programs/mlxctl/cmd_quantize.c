/* mlxctl quantize MODEL DIR: a model folder quantized, dequantized, in another type, or with an adapter's weights merged in. */
#include <stdio.h>
#include <stdlib.h>

#include "convert/convert.h"
#include "mlxctl.h"
#include "model/summary.h"
#include "report.h"

static void cancel_convert(void *ud)
{
    __atomic_store_n((int *)ud, 1, __ATOMIC_RELAXED);
}

static mlxr_dtype dtype_of(const char *word)
{
    if (!word) return MLXR_DTYPE_COUNT;
    return strcmp(word, "f16") == 0 ? MLXR_F16 : strcmp(word, "bf16") == 0 ? MLXR_BF16 : MLXR_F32;
}

/* The new folder is opened as any other: what it tells of itself is what it is. */
static mlxr_status tell_result(const char *dir, bool json, mlxr_error *err)
{
    mlxr_summary s = {0};
    mlxr_model *m = NULL;
    uint64_t n_bytes;
    double bits;
    mlxr_status st = mlxr_model_open(&m, dir, err);

    if (st == MLXR_OK) st = mlxr_summary_init(&s, mlxr_model_program(m), err);
    if (st != MLXR_OK) goto done;
    n_bytes = mlxr_checkpoint_bytes(mlxr_model_checkpoint(m));
    bits = s.n_parameters ? 8.0 * (double)s.n_weight_bytes / (double)s.n_parameters : 0.0;
    if (json) {
        report_json r = {.root = json_object()};
        r.failed = !r.root;
        report_put(&r, r.root, "model", report_string(dir));
        report_put_count(&r, r.root, "parameters", s.n_parameters);
        report_put_count(&r, r.root, "weight_bytes", s.n_weight_bytes);
        report_put_count(&r, r.root, "file_bytes", n_bytes);
        report_put(&r, r.root, "bits_per_weight", json_real(bits));
        st = report_write_json(&r, err);
        json_decref(r.root);
    } else {
        printf("%s  %.2f bits a weight, %llu bytes\n", dir, bits, (unsigned long long)n_bytes);
    }
done:
    mlxr_summary_clear(&s);
    mlxr_model_close(m);
    return st;
}

int cmd_quantize(int argc, char **argv)
{
    mlxr_convert_options convert = mlxr_convert_options_default();
    const char *mode = NULL, *dtype = NULL, *adapter = NULL, *model_paths = NULL, *args[2];
    int64_t bits = 0, group_size = 0;
    bool dequantize = false, json = false;
    const struct cli_option options[] = {
        {"bits", CLI_INT, "N", &bits, 2, 8, "of a weight: 2, 3, 4 (default), 5, 6 or 8"},
        {"group-size", CLI_INT, "N", &group_size, 16, 128,
         "weights with a scale of their own: 32, 64 (default) or 128"},
        {"mode", CLI_CHOICE, "affine|mxfp4|nvfp4|mxfp8", &mode, 0, 0,
         "affine (default), or floats, whose bits and group size are fixed"},
        {"dtype", CLI_CHOICE, "f16|bf16|f32", &dtype, 0, 0, "type of what is not quantized (as it is)"},
        {"dequantize", CLI_FLAG, NULL, &dequantize, 0, 0, "instead: plain weights of a quantized model"},
        {"adapter", CLI_STRING, "DIR", &adapter, 0, 0,
         "merge this LoRA or DoRA (mlx-lm or PEFT); alone: nothing else changes"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "tell about the new model as one JSON object"},
        {"model-paths-json", CLI_STRING, "FILE", &model_paths, 0, 0, "where model ids are looked up"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl quantize Qwen3-4B-bf16 Qwen3-4B-4bit", "4 bits, groups of 64", NULL},
        {"mlxctl quantize Qwen3-4B-bf16 Qwen3-4B-mxfp4 --mode mxfp4 && mlxctl store import Qwen3-4B-mxfp4",
         "floats of 4 bits, and into the store", NULL},
        {"mlxctl quantize smollm2 smollm2-tuned --adapter adapters",
         "an adapter merged into a model of the store", NULL},
        {"mlxctl quantize smollm2 smollm2-plain --dequantize --dtype bf16", "plain weights, for training",
         NULL},
    };
    const struct cli cli = {
        .program = "mlxctl quantize",
        .synopsis = "MODEL DIR [--bits N] [--group-size N] [--mode MODE] [--dtype TYPE] [--dequantize] "
                    "[--adapter DIR] "
                    "[--json]",
        .summary =
            "Writes MODEL to a new folder with its matrices quantized, as mlx_lm.convert -q does: the same\n"
            "matrices, the same bits. With --dequantize, or with --dtype or --adapter and no option of\n"
            "quantization, it is written without being quantized anew.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model dir",
    };
    mlxr_error err = {0};
    int cancel = 0, code;
    char *dir = NULL;
    mlxr_status st;
    size_t n_args;

    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 2) return cli_usage(&cli, "MODEL and DIR are needed");
    if (dequantize && (bits || group_size || mode))
        return cli_usage(&cli, "--dequantize goes without --bits, --group-size and --mode");
    convert.quantize = dequantize || bits || group_size || mode || (!adapter && !dtype);
    if (!dequantize) {
        convert.quant = mlxr_quant_default(mlxr_quant_mode_from_name(mode ? mode : "affine"));
        if (bits) convert.quant.bits = (unsigned)bits;
        if (group_size) convert.quant.group_size = (unsigned)group_size;
        if (!mlxr_quant_supported(convert.quant))
            return cli_usage(
                &cli,
                "%s has no %u bits in groups of %u: affine has 2, 3, 4, 5, 6 or 8 bits in groups of 32, "
                "64 or 128, mxfp4 4 in 32, nvfp4 4 in 16, mxfp8 8 in 32",
                mlxr_quant_mode_name(convert.quant.mode), convert.quant.bits, convert.quant.group_size);
    }
    convert.dtype = dtype_of(dtype);
    convert.adapter = adapter;
    convert.progress = cli_progress("writing");
    convert.log = cli_log(cli.program, false);
    convert.cancel = &cancel;
    if ((st = cli_model_dir(&dir, args[0], model_paths, &err)) != MLXR_OK) goto done;
    cli_on_interrupt(cancel_convert, &cancel);
    st = mlxr_convert(dir, args[1], &convert, &err);
    cli_on_interrupt(NULL, NULL);
    if (st == MLXR_OK) st = tell_result(args[1], json, &err);
done:
    free(dir);
    return st == MLXR_OK ? 0 : cli_fail(cli.program, &err);
}
