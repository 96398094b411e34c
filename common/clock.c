#include "clock.h"

#include <time.h>

void clock_sleep_us(uint64_t us)
{
    struct timespec left = {.tv_sec = (time_t)(us / 1000000),
                            .tv_nsec = (long)(us % 1000000) * 1000L};
    while (nanosleep(&left, &left) != 0)
        ;
}
