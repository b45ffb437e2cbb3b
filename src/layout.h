/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Replace some memslots of a VM by others that map the same frames to the same
 * host addresses, with one swap of the two slot sets for what stays.
 */
#ifndef _MEMSLOT_OPS_LAYOUT_H
#define _MEMSLOT_OPS_LAYOUT_H

#include "change.h"

int layout_replace(struct layout_change *c);

#endif /* _MEMSLOT_OPS_LAYOUT_H */
