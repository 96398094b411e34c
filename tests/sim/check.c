#include "tests/sim/sim.h"
void check_begin(void)
{
}
void check_after_event(void)
{
}
void check_at_end(void)
{
}
