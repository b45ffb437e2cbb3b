/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads that make one call, and what can be known about them meanwhile; and
 * faults that sleep for as long as the test likes.
 */
#ifndef SELFTESTS_ASYNC_H
#define SELFTESTS_ASYNC_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct async {
	pthread_t thread;
	int (*call)(void *arg);
	void *arg;
	atomic_int tid;
	atomic_bool done;
	int err;
};

void async_start(struct async *a, int (*call)(void *arg), void *arg);
/* The same in a process of its own, which has the same memory and files. */
void async_start_process(struct async *a, int (*call)(void *arg), void *arg);
/* Sends that process SIGKILL. */
void async_kill(struct async *a);
/* Whether it dies of that, soon. */
bool async_dies(struct async *a);
/* Whether the call has ended, for host_wait(). */
bool async_is_done(void *async);
/* Waits for the end of the call, and returns what it did. */
int async_join(struct async *a);
/* Waits for it, and fails the test if that is not 0. */
void async_must_succeed(struct async *a, const char *what);

/*
 * Whether the call stands in a function of the kernel, by its name or part of
 * that. Stacks can be read by root.
 */
bool async_stands_in(struct async *a, const char *function);
/* Whether the call sleeps where no signal but a fatal one would wake it. */
bool async_sleeps(struct async *a);

/*
 * Waits until the call, an operation, has swapped the slot sets for the @nth
 * time and waits for those who still use the old one. Fails the test if it
 * returns without that. The trace must be on, and empty before.
 */
void async_wait_for_swap(struct async *a, int nth);

/* Userfaultfd, or -1. */
int uffd_open(void);
/*
 * Faults of pages that are missing, or writes if they are to be @protected,
 * sleep from now on.
 */
bool uffd_hold(int uffd, void *mem, size_t size, bool protected);
/* Waits until somebody faults in that page. */
void uffd_wait_for_fault(int uffd, void *page);
/* Lets those who sleep for the page go on; a missing one is filled with @byte. */
void uffd_resolve(int uffd, void *page, bool protected, int byte);
/* Undoes uffd_hold(). */
void uffd_release(int uffd, void *mem, size_t size);

/*
 * An address space in unrest: memory becomes executable, and again is not, so
 * that an MMU notifier is under way most of the time. It is that of slots, or
 * some that no slot has where @mem is NULL.
 */
struct unrest;
struct unrest *unrest_start(void *mem, size_t size);
void unrest_stop(struct unrest *u);

#endif
