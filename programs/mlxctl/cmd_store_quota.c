/* mlxctl store quota [SIZE|none] */
#include <math.h>
#include <stdlib.h>

#include "mlxctl.h"
#include "store/store.h"
#include "store_ui.h"

/* "50GB", "50 GB", "1.5T", "800000000"; powers of 1000, with "i" (GiB) of 1024. 0: none. */
static bool read_size(uint64_t *out, const char *text)
{
    static const char units[] = "kmgtp";
    double x, base = 1000;
    const char *unit;
    char *end;

    *out = 0;
    if (strcmp(text, "none") == 0) return true;
    x = strtod(text, &end);
    if (end == text || !isfinite(x) || x <= 0) return false;
    while (*end == ' ') end++;
    if (*end && (unit = strchr(units, *end | 0x20)) != NULL && (*end | 0x20) != 'b') {
        end++;
        if (*end == 'i') {
            base = 1024;
            end++;
        }
        x *= pow(base, (double)(unit - units + 1));
    }
    if ((*end | 0x20) == 'b') end++;
    if (*end || x < 1 || x >= 9e18) return false;
    *out = (uint64_t)x;
    return true;
}

static mlxr_status print(uint64_t quota, uint64_t used, bool json, mlxr_error *err)
{
    char a[32], b[32];
    report_json r = {0};
    mlxr_status st;

    if (!json) {
        printf("%s used", words_size(a, used));
        if (quota)
            printf(" of %s (%.0f %%)\n", words_size(b, quota), (double)used / (double)quota * 100);
        else
            printf(", no quota\n");
        return MLXR_OK;
    }
    r.root = json_object();
    if (quota)
        report_put_count(&r, r.root, "quota_bytes", quota);
    else
        report_put(&r, r.root, "quota_bytes", json_null());
    report_put_count(&r, r.root, "used_bytes", used);
    st = report_write_json(&r, err);
    json_decref(r.root);
    return st;
}

int cmd_store_quota(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object: {\"quota_bytes\", \"used_bytes\"}"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl store quota", "what is used, and what may be", NULL},
        {"mlxctl store quota 50GB", "50,000,000,000 bytes at most", NULL},
        {"mlxctl store quota none", "no limit", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl store quota",
        .synopsis = "[SIZE|none] [--json]",
        .summary = "How large the store's files may become in all: with SIZE sets it (GB, MB ... count by "
                   "1000, GiB by "
                   "1024), else tells it. What would go beyond fails before anything is fetched. Files that "
                   "are there "
                   "stay, whatever the quota.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "none",
    };
    const char *args[1];
    mlxr_store *store = NULL;
    mlxr_error err = {0};
    uint64_t quota = 0, used = 0;
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args > 0 && !read_size(&quota, args[0]))
        return cli_usage(&cli, "\"%s\" is neither a size (\"50GB\") nor \"none\"", args[0]);
    if ((st = cli_store_open(&store, cli.program, &err)) != MLXR_OK) goto done;
    if (n_args > 0 && (st = mlxr_store_set_quota(store, quota, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_store_quota(&quota, &used, store, &err)) != MLXR_OK) goto done;
    st = print(quota, used, json, &err);
done:
    mlxr_store_close(store);
    return st == MLXR_OK ? 0 : cli_store_fail(cli.program, &err);
}
