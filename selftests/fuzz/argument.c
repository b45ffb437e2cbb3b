// SPDX-License-Identifier: GPL-2.0
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "argument.h"
#include "kvm_util.h"
#include "processor.h"

/* A bit for each page of the largest slot there can be. */
#define ROOM		(8UL << 20)
/* Threads that use good places at once do not share them. */
static __thread char good[MAX_ARGUMENT];

/*
 * Two pages: arguments, which all begin with the number of a slot, and bitmaps. The
 * number stays one of those that the fuzzer uses, whatever becomes of the rest:
 * what is mapped here comes and goes, and its contents stay.
 */
static char *contested, *contents;
static char *room, *edge, *readonly;
static atomic_bool meddles;

static void map_contested(int memfd, int prot)
{
	TEST_ASSERT(mmap(contested, 2 * PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED,
			 memfd, 0) == contested, "no memory for arguments");
}

/* Goes on for ever. */
static void *meddler_main(void *arg)
{
	int memfd = (intptr_t)arg;
	uint32_t seed = 1;

	for (;; seed = seed * 1664525 + 1013904223) {
		if (!meddles) {
			usleep(1000);
			continue;
		}
		switch (seed >> 29) {
		case 0:
			/* As munmap() would; nobody else may get the place. */
			map_contested(memfd, PROT_NONE);
			break;
		case 1:
			mprotect(contested, 2 * PAGE_SIZE, PROT_READ);
			break;
		case 2:
			map_contested(memfd, PROT_READ | PROT_WRITE);
			break;
		default:
			contents[4 + (seed >> 8) % 64] = seed >> 16;
		}
		sched_yield();
	}
	return NULL;
}

static char *map(size_t size, int prot)
{
	char *at = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			-1, 0);

	TEST_ASSERT(at != MAP_FAILED, "no memory for arguments");
	return at;
}

void argument_init(void)
{
	int memfd = memfd_create("arguments", MFD_CLOEXEC);
	pthread_t meddler;

	TEST_ASSERT(memfd >= 0 && !ftruncate(memfd, 2 * PAGE_SIZE),
		    "no memory for arguments");
	room = map(ROOM, PROT_READ | PROT_WRITE);
	edge = map(2 * PAGE_SIZE, PROT_READ | PROT_WRITE);
	mprotect(edge + PAGE_SIZE, PAGE_SIZE, PROT_NONE);
	readonly = map(PAGE_SIZE, PROT_READ | PROT_WRITE);
	memset(readonly, -1, PAGE_SIZE);
	mprotect(readonly, PAGE_SIZE, PROT_READ);
	contested = map(2 * PAGE_SIZE, PROT_NONE);
	contents = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			memfd, 0);
	TEST_ASSERT(contents != MAP_FAILED, "no memory for arguments");
	memset(contents, -1, PAGE_SIZE);
	map_contested(memfd, PROT_READ | PROT_WRITE);
	pthread_create(&meddler, NULL, meddler_main, (void *)(intptr_t)memfd);
}

static void *bad_address(enum place place)
{
	switch (place) {
	case PLACE_KERNEL:
		return (void *)0xffff888000000000UL;
	case PLACE_NOWHERE:
		return (void *)0x8000000000001234UL;
	default:
		return NULL;
	}
}

void *argument_put(enum place place, const void *argument, size_t size)
{
	char *at;

	TEST_ASSERT(size <= MAX_ARGUMENT, "an argument of %zu bytes", size);
	switch (place) {
	case PLACE_GOOD:
		return memcpy(good, argument, size);
	case PLACE_EDGE:
		at = edge + PAGE_SIZE - align_up(size, 8) / 2;
		return memcpy(at, argument, edge + PAGE_SIZE - at);
	case PLACE_READONLY:
		return readonly;
	case PLACE_CONTESTED:
		memcpy(contents, argument, size);
		return contested;
	default:
		return bad_address(place);
	}
}

void *argument_room(enum place place)
{
	switch (place) {
	case PLACE_GOOD:
		return room;
	case PLACE_EDGE:
		return edge + PAGE_SIZE - 8;
	case PLACE_READONLY:
		return readonly;
	case PLACE_CONTESTED:
		return contested + PAGE_SIZE;
	default:
		return bad_address(place);
	}
}

void argument_meddle(bool on)
{
	meddles = on;
}
