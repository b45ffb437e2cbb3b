// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "host.h"
#include "input.h"
#include "kvm_util.h"
#include "memslot_ops.h"
#include "processor.h"

#define PAGES(n)	((uint64_t)(n) * PAGE_SIZE)

static const uint8_t calls[] = {
	CALL_SET, CALL_SET, CALL_SET, CALL_SET, CALL_SET, CALL_SET,
	CALL_GROW, CALL_GROW, CALL_GROW,
	CALL_SHRINK, CALL_SHRINK, CALL_SHRINK, CALL_SHRINK,
	CALL_SPLIT, CALL_SPLIT, CALL_SPLIT,
	CALL_MERGE, CALL_MERGE, CALL_MERGE,
	CALL_READONLY, CALL_READONLY,
	CALL_RAW, CALL_RAW,
	CALL_ATTR, CALL_ATTR,
	CALL_GET_LOG, CALL_CLEAR_LOG,
	CALL_RESET_RINGS,
	CALL_OPEN, CALL_CLOSE,
	CALL_RUN, CALL_RUN, CALL_RUN, CALL_RUN,
	CALL_HOST_MEMORY, CALL_HOST_MEMORY,
	CALL_FORK, CALL_SEND, CALL_KILL,
};

static const uint8_t places[] = {
	[0 ... 19] = PLACE_GOOD,
	PLACE_NULL, PLACE_KERNEL, PLACE_NOWHERE,
	PLACE_EDGE, PLACE_EDGE, PLACE_READONLY,
	PLACE_CONTESTED, PLACE_CONTESTED, PLACE_CONTESTED, PLACE_CONTESTED,
	PLACE_CONTESTED, PLACE_CONTESTED,
};

/* 0 and 1 are those that the guest lives in. */
const uint32_t input_slots[MAX_SLOTS] = {
	2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
	SLOT(1, 0), SLOT(1, 1), SLOT(1, 2), SLOT(1, 3),
	32763, 32764, 32765, 32766, 32767, 32768, 0xffff,
	SLOT(1, 32763), SLOT(1, 32764), SLOT(2, 2), SLOT(0x7fff, 2),
	SLOT(0xffff, 0xffff),
};

static const uint64_t edges[] = {
	0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, PAGES(1), PAGES(63), PAGES(64),
	PAGES(65), HUGE_SIZE - PAGE_SIZE, HUGE_SIZE, HUGE_SIZE + PAGE_SIZE,
	2 * HUGE_SIZE, GIGA_SIZE - PAGE_SIZE, GIGA_SIZE, GIGA_SIZE + PAGE_SIZE,
	64 * GIGA_SIZE, 64 * GIGA_SIZE + PAGE_SIZE,
	PAGES(1UL << 31) - PAGE_SIZE / 2, PAGES(1UL << 31), PAGES(1UL << 32),
	1UL << 46, 1UL << 47, 1UL << 52, 1UL << 62, 1UL << 63,
	(1UL << 63) - PAGE_SIZE, -PAGES(1), -PAGES(2), -HUGE_SIZE, -1UL,
	UINT32_MAX, UINT32_MAX + 1UL,
};

enum call input_call(const struct record *r)
{
	return calls[r->call % ARRAY_SIZE(calls)];
}

enum place input_place(uint8_t byte)
{
	return places[byte % ARRAY_SIZE(places)];
}

uint64_t input_bytes(uint16_t word)
{
	/* Five pages more than 8 MiB, in pages; else one of the edges. */
	if (word < 0xe000)
		return PAGES(word % 2053);
	return edges[word % ARRAY_SIZE(edges)];
}

uint32_t input_flags(uint8_t byte, uint32_t usual)
{
	if (byte < 0xf0)
		return usual;
	return byte & 1 ? 1U << (byte >> 1 & 31) : byte * 0x01010101U;
}

uint32_t input_word(const struct record *r)
{
	uint32_t word;

	memcpy(&word, r->more, sizeof(word));
	return word;
}
