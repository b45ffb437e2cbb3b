/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions that are global but not exported.
 */
#ifndef _MEMSLOT_OPS_WRAPPER_SYMBOL_H
#define _MEMSLOT_OPS_WRAPPER_SYMBOL_H

void *symbol_address(const char *name);

#endif /* _MEMSLOT_OPS_WRAPPER_SYMBOL_H */
