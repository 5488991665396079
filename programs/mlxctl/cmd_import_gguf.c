/* mlxctl import-gguf FILE DIR */
#include <stdio.h>
#include <unistd.h>

#include "format/format.h"
#include "mlxctl.h"

static void show(uint64_t done, uint64_t total, void *ud)
{
    (void)ud;
    fprintf(stderr, "\rimporting %3d %%", total ? (int)(done * 100 / total) : 100);
    if (done >= total) fputc('\n', stderr);
    fflush(stderr);
}

int cmd_import_gguf(int argc, char **argv)
{
    mlxr_gguf_import_options import = mlxr_gguf_import_options_default();
    int64_t bits = import.requantize_bits, group_size = import.requantize_group_size;
    const struct cli_option options[] = {
        {"requantize", CLI_FLAG, NULL, &import.requantize, 0, 0,
         "also take types without a lossless form (Q4_K, Q6_K, ...)"},
        {"bits", CLI_INT, "N", &bits, 2, 8, "... as affine of so many bits (4)"},
        {"group-size", CLI_INT, "N", &group_size, 32, 128, "... in groups of so many (32)"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl import-gguf model.gguf folder", "a folder for mlxctl, MLX and others", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl import-gguf",
        .synopsis = "FILE.gguf DIR [--requantize [--bits N] [--group-size N]]",
        .summary =
            "Turns a llama-family GGUF file into a model folder: config.json, model.safetensors,\n"
            "tokenizer.json, tokenizer_config.json. No bit of a weight is lost; a type that would lose\n"
            "some is refused by name unless --requantize is given.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "file dir",
    };
    const char *args[2];
    mlxr_error err = {0};
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 2, &n_args, &code)) return code;
    if (n_args < 2) return cli_usage(&cli, "FILE and DIR are needed");
    if (!mlxr_quant_supported((mlxr_quant){MLXR_QUANT_AFFINE, (unsigned)bits, (unsigned)group_size}))
        return cli_usage(&cli, "bits are 2, 3, 4, 5, 6 or 8 and the group size is 32, 64 or 128");
    import.requantize_bits = (unsigned)bits;
    import.requantize_group_size = (unsigned)group_size;
    if (isatty(STDERR_FILENO)) import.progress.fn = show;
    import.log = cli_log(cli.program, false);
    if (mlxr_gguf_import(args[0], args[1], &import, &err) != MLXR_OK) return cli_fail(cli.program, &err);
    printf("%s\n", args[1]);
    return 0;
}
