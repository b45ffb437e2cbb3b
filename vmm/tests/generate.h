/* SPDX-License-Identifier: MIT */
/*
 * Random transitions, each of which a number brings back.
 */
#ifndef GENERATE_H
#define GENERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "transition.h"

struct rng {
	uint64_t state;
};

/* rng_start - the same numbers for the same @seed and @stream */
struct rng rng_start(uint64_t seed, uint64_t stream);
uint64_t rng_next(struct rng *rng);
/* rng_below - Return: less than @limit, which is not 0 */
uint32_t rng_below(struct rng *rng, uint32_t limit);
/* rng_chance - Return: true once in @of times */
bool rng_chance(struct rng *rng, uint32_t of);

/*
 * generate - a transition
 * @max_units: of guest addresses; boundaries lie between these
 */
struct transition *generate(struct rng *rng, uint32_t max_units);

/* generate_added - one that only adds to @from: slots, and to ends of slots */
struct transition *generate_added(struct rng *rng,
				  const struct transition *from);

/* generate_resized - one in which just one slot of @from gets another size */
struct transition *generate_resized(struct rng *rng,
				    const struct transition *from);

#endif /* GENERATE_H */
