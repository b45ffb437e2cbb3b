/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the fuzzer's bytes are read: a header, and records of one size, each of
 * which is a call. Any bytes mean something, and what is near the sense or the
 * edge of a thing comes up more often than what KVM refuses at first sight.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

/* The header. */
#define INPUT_FLAVOUR		3	/* of the VM; enum flavour */
#define INPUT_LOOP		(1 << 2) /* a vCPU is busy meanwhile */
#define INPUT_MEDDLE		(1 << 3) /* somebody changes arguments */
#define INPUT_THREADS		(1 << 4) /* calls are made by several threads */
#define INPUT_RELOAD		(1 << 5) /* the vendor's module comes anew before */
#define INPUT_LOG		INPUT_RELOAD	/* slots that are there log */
#define INPUT_SLOTS		(1 << 6) /* how many there are at first: 0 to 3 */

enum call {
	CALL_SET,
	CALL_GROW,
	CALL_SHRINK,
	CALL_SPLIT,
	CALL_MERGE,
	CALL_READONLY,
	CALL_RAW,
	CALL_ATTR,
	CALL_GET_LOG,
	CALL_CLEAR_LOG,
	CALL_RESET_RINGS,
	CALL_OPEN,
	CALL_CLOSE,
	CALL_RUN,
	CALL_HOST_MEMORY,
	CALL_FORK,
	CALL_SEND,
	CALL_KILL,
	NR_CALLS,
};

struct record {
	uint8_t call;
	uint8_t how;			/* by whom, and where the argument is */
	uint8_t slot;
	uint8_t nr;
	uint16_t x, y;
	uint8_t more[4];
};

#define MAX_RECORDS	128

/* Where an argument lies. */
enum place {
	PLACE_GOOD,
	PLACE_NULL,
	PLACE_KERNEL,
	PLACE_NOWHERE,			/* not an address at all */
	PLACE_EDGE,			/* its second half is in no page */
	PLACE_READONLY,
	PLACE_CONTESTED,		/* others write there, and unmap it */
};

enum call input_call(const struct record *r);
enum place input_place(uint8_t byte);
/* Numbers that slots can have here, the first in one address space, and some that they cannot. */
#define MAX_SLOTS	32
#define GOOD_SLOTS	16

extern const uint32_t input_slots[MAX_SLOTS];
/* A size or an offset, in bytes. */
uint64_t input_bytes(uint16_t word);
/* 32 bits, mostly what they should be. */
uint32_t input_flags(uint8_t byte, uint32_t usual);
uint32_t input_word(const struct record *r);

/* libFuzzer's own mutation, of at least a byte. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

#endif
