/* clock: pauses of threads that may block. Floor 2. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

/* Sleeps at least that long, signals or not. Never on a loop. */
void clock_sleep_us(uint64_t us);

#endif
