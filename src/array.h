/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arrays that have their memory in common.
 */
#ifndef _MEMSLOT_OPS_ARRAY_H
#define _MEMSLOT_OPS_ARRAY_H

#include <linux/types.h>

/**
 * struct array_part - what an array is to have in common with another one
 * @from: where it is in the other
 * @at: where it is to be, in bytes from the start
 * @bytes: how long it is
 * @shared: whether it is the same memory in both, once the array exists
 */
struct array_part {
	const void *from;
	size_t at;
	size_t bytes;
	bool shared;
};

void *array_build(size_t bytes, struct array_part *parts, unsigned int nr);
void array_clear(void *from, size_t bytes);
bool array_is_clear(const void *from, size_t bytes);
bool array_reaches(const void *array, size_t bytes, size_t wanted);
bool array_is_too_long(const void *array, size_t needed);
bool array_is_alone(const void *array, size_t from, size_t to);
size_t array_common(const void *a, const void *b, size_t bytes);

#endif /* _MEMSLOT_OPS_ARRAY_H */
