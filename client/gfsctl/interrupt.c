#include "interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#define INTERRUPT_GRACE_S 2

/* A signal handler has no argument to hang a context on: the program's root state. */
static struct {
    atomic_int signo;
    _Atomic(const char *) temporary;
} interrupt_state;

/* Async-signal-safe. */
static void interrupt_die(int signo)
{
    const char *temporary = atomic_exchange(&interrupt_state.temporary, NULL);
    if (temporary)
        unlink(temporary);
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signo, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(signo);
}

static void interrupt_on_signal(int signo)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&interrupt_state.signo, &none, signo))
        alarm(INTERRUPT_GRACE_S);
    else
        interrupt_die(signo);
}

static void interrupt_on_alarm(int signo)
{
    int pending = atomic_load(&interrupt_state.signo);
    interrupt_die(pending ? pending : signo);
}

void interrupt_install(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = interrupt_on_signal};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old;
        sigaction(signals[i], NULL, &old);
        if (old.sa_handler != SIG_IGN) /* nohup, background jobs */
            sigaction(signals[i], &action, NULL);
    }
    action.sa_handler = interrupt_on_alarm;
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool interrupt_pending(void)
{
    return atomic_load(&interrupt_state.signo) != 0;
}

void interrupt_set_temporary(const char *path)
{
    atomic_store(&interrupt_state.temporary, path);
}

void interrupt_deliver(void)
{
    int signo = atomic_load(&interrupt_state.signo);
    if (signo)
        interrupt_die(signo);
}
