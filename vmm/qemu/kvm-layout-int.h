/* SPDX-License-Identifier: MIT */
/*
 * What kvm-all.c and kvm-layout.c use of each other
 */
#ifndef KVM_LAYOUT_INT_H
#define KVM_LAYOUT_INT_H

#include "system/kvm_int.h"

/* In kvm-layout.c */

/* Add the accelerator's properties that have to do with this */
void kvm_layout_class_init(ObjectClass *oc);

/* See what the host offers; the VM has no slots yet */
void kvm_layout_init(KVMState *s);

/*
 * Carry a transaction out.  Called with kml_slots_lock held.
 *
 * Returns false if it has to be done by deleting and creating slots; nothing
 * has changed then.
 */
bool kvm_layout_commit(KVMMemoryListener *kml);

/* accel_ioctl_inhibit_begin() and accel_ioctl_inhibit_end(), counted */
void kvm_layout_hold(void);
void kvm_layout_release(void);

/*
 * Take a dirty ring's entry whose number no slot can have: it is for memory
 * that has just been removed.  Called with kml_slots_lock held.
 */
void kvm_layout_mark_removed(KVMMemoryListener *kml, uint32_t slot_id,
                             uint64_t offset);

/* In kvm-all.c; all but the first three want kml_slots_lock to be held */

extern hwaddr kvm_max_slot_size;
hwaddr kvm_align_section(MemoryRegionSection *section, hwaddr *start);
int kvm_mem_flags(MemoryRegion *mr);
bool kvm_slots_grow(KVMMemoryListener *kml, unsigned int nr_slots_new);
KVMSlot *kvm_lookup_matching_slot(KVMMemoryListener *kml, hwaddr start_addr,
                                  hwaddr size);
void kvm_slot_init_dirty_bitmap(KVMSlot *mem);
bool kvm_slot_get_dirty_log(KVMState *s, KVMSlot *slot);
void kvm_slot_sync_dirty_pages(KVMSlot *slot);
void kvm_slot_reset_dirty_pages(KVMSlot *slot);
uint64_t kvm_dirty_ring_reap_locked(KVMState *s, CPUState *cpu);

#endif /* KVM_LAYOUT_INT_H */
