/* bench_hash FILE: how fast a file in the page cache is hashed by one thread, with and without the states on the way, and while it is
 * copied to nowhere; beside libcrypto's rate for 16 KiB blocks in memory, which is what `openssl speed -evp sha256` reports. Each is
 * done in turn, N times, and the medians are compared. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/store.h"

enum { ROUNDS = 5, BLOCK = 16384 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double v[ROUNDS])
{
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

static double rate(uint64_t n, uint64_t since)
{
    return (double)n / 1e6 / ((double)(mlxr_now_ns() - since) / 1e9);
}

/* As openssl speed does it: one context, blocks from one buffer. */
static double of_memory(uint64_t n)
{
    static unsigned char block[BLOCK];
    unsigned char out[EVP_MAX_MD_SIZE];
    uint64_t since = mlxr_now_ns();

    for (uint64_t at = 0; at < n; at += BLOCK)
        if (!EVP_Digest(block, BLOCK, out, NULL, EVP_sha256(), NULL)) return 0;
    return rate(n, since);
}

int main(int argc, char **argv)
{
    double memory[ROUNDS], plain[ROUNDS], states[ROUNDS];
    struct stat sb;
    mlxr_error err;

    if (argc != 2 || stat(argv[1], &sb) != 0) {
        fprintf(stderr, "usage: bench_hash FILE\n");
        return 2;
    }
    for (int i = 0; i <= ROUNDS; i++) { /* the first brings the file into the page cache */
        int k = i ? i - 1 : 0;
        uint64_t n = (uint64_t)sb.st_size, since;
        char digest[72];
        mlxr_buf sums = {0};

        memory[k] = of_memory(n);
        since = mlxr_now_ns();
        if (mlxr_hash_file(digest, NULL, argv[1], n, NULL, "hashing", NULL, &err) != MLXR_OK) goto failed;
        plain[k] = rate(n, since);
        since = mlxr_now_ns();
        if (mlxr_hash_file(digest, &sums, argv[1], n, NULL, "hashing", NULL, &err) != MLXR_OK) goto failed;
        states[k] = rate(n, since);
        mlxr_buf_clear(&sums);
    }
    printf("memory, 16 KiB blocks  %7.0f MB/s\n", median(memory));
    printf("file                   %7.0f MB/s  %.2f\n", median(plain), median(plain) / median(memory));
    printf("file, states kept      %7.0f MB/s  %.2f\n", median(states), median(states) / median(memory));
    return 0;
failed:
    fprintf(stderr, "%s\n", err.message);
    return 1;
}
