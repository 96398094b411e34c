/* check_history FILE: is this the history of a store that keeps its promises? Exit 1: no, 3: too
 * many operations with an open outcome to tell. See history.h. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/history.h"

int main(int argc, char **argv)
{
    struct history history;
    struct history_result result;
    FILE *file;
    size_t bad_line;
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: check_history FILE\n");
        return 2;
    }
    file = fopen(argv[1], "r");
    if (file == NULL) {
        perror(argv[1]);
        return 2;
    }
    history_init(&history);
    bad_line = history_load(&history, file);
    fclose(file);
    if (bad_line != 0) {
        fprintf(stderr, "%s:%zu: not an operation\n", argv[1], bad_line);
        history_release(&history);
        return 2;
    }
    result = history_check(&history, stdout);
    printf("%zu operations, %zu violations, %zu undecided\n", history.count, result.violations,
           result.undecided);
    history_release(&history);
    if (result.violations > 0)
        return 1;
    return result.undecided > 0 ? 3 : 0;
}
