/* Runs one fuzz target over the files named, without libFuzzer: the corpus in `make test`. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    uint8_t *data = NULL;
    size_t len = 0;
    size_t cap = 0;
    for (;;) {
        if (len == cap) {
            cap = cap == 0 ? 65536 : cap * 2;
            uint8_t *bigger = realloc(data, cap);
            if (bigger == NULL) {
                abort();
            }
            data = bigger;
        }
        size_t got = fread(data + len, 1, cap - len, file);
        if (got == 0) {
            break;
        }
        len += got;
    }
    fclose(file);

    /* A block of exactly the input's size, so that a read past its end is caught. */
    uint8_t *exact = malloc(len == 0 ? 1 : len);
    if (exact == NULL) {
        abort();
    }
    for (size_t i = 0; i < len; i++) {
        exact[i] = data[i];
    }
    free(data);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        failed |= replay_file(argv[i]);
    }
    printf("%d inputs\n", argc - 1);
    return failed;
}
