// SPDX-License-Identifier: GPL-2.0
/*
 * Mutations of whole records.  Those of libFuzzer's move bytes from one record into
 * the next, after which nothing means what it did.
 */
#include <stdlib.h>
#include <string.h>

#include "input.h"

#define HEADER		1
/* Fewer say little. */
#define MIN_RECORDS	48

static uint8_t *at(uint8_t *data, size_t i)
{
	return data + HEADER + i * sizeof(struct record);
}

/* Room for one record before the @i-th of @nr. */
static uint8_t *make_room(uint8_t *data, size_t i, size_t nr)
{
	memmove(at(data, i + 1), at(data, i), (nr - i) * sizeof(struct record));
	return at(data, i);
}

static size_t insert(uint8_t *data, size_t nr, unsigned int *seed)
{
	uint8_t *room = make_room(data, rand_r(seed) % (nr + 1), nr);
	size_t i;

	for (i = 0; i < sizeof(struct record); i++)
		room[i] = rand_r(seed) >> 8;
	return nr + 1;
}

static size_t repeat(uint8_t *data, size_t nr, unsigned int *seed)
{
	uint8_t copy[sizeof(struct record)];

	memcpy(copy, at(data, rand_r(seed) % nr), sizeof(copy));
	memcpy(make_room(data, rand_r(seed) % (nr + 1), nr), copy, sizeof(copy));
	return nr + 1;
}

static size_t erase(uint8_t *data, size_t nr, unsigned int *seed)
{
	size_t i = rand_r(seed) % nr;

	memmove(at(data, i), at(data, i + 1),
		(nr - i - 1) * sizeof(struct record));
	return nr - 1;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed)
{
	size_t max = (max_size - HEADER) / sizeof(struct record);
	size_t nr = size > HEADER ? (size - HEADER) / sizeof(struct record) : 0;

	/* It asks for small ones, too, in places where it has no more room. */
	if (max < MIN_RECORDS)
		return LLVMFuzzerMutate(data, size, max_size);
	if (!size || !(rand_r(&seed) % 8))
		data[0] = rand_r(&seed) >> 8;
	do {
		switch (nr < MIN_RECORDS ? 0 : rand_r(&seed) % 8) {
		case 0:
		case 1:
			nr = nr < max ? insert(data, nr, &seed) : nr;
			break;
		case 2:
			nr = nr < max ? repeat(data, nr, &seed) : nr;
			break;
		case 3:
			nr = erase(data, nr, &seed);
			break;
		default:
			LLVMFuzzerMutate(at(data, rand_r(&seed) % nr),
					 sizeof(struct record),
					 sizeof(struct record));
		}
	} while (nr < MIN_RECORDS || rand_r(&seed) % 8);
	return HEADER + nr * sizeof(struct record);
}
