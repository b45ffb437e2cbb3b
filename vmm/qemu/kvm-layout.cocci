// SPDX-License-Identifier: MIT
//
// Hooks kvm-layout.c into QEMU 10.0: accel/kvm/kvm-all.c and hw/virtio/virtio-mem.c.
// host/qemu applies it, and adds what is no C.

@ header @
@@
  #include "system/kvm_int.h"
+ #include "kvm-layout-int.h"

// What kvm-layout.c uses: its header declares it.

@ declared @
@@
- static void kvm_slot_init_dirty_bitmap(KVMSlot *mem);

@ shared @
identifier f = { kvm_slots_grow, kvm_lookup_matching_slot, kvm_align_section, kvm_mem_flags,
		 kvm_slot_init_dirty_bitmap, kvm_slot_get_dirty_log, kvm_slot_sync_dirty_pages,
		 kvm_slot_reset_dirty_pages, kvm_dirty_ring_reap_locked };
type T;
parameter list arguments;
@@
- static
  T f(arguments)
  {
  ...
  }

@ limit @
@@
- static hwaddr kvm_max_slot_size = ~0;
+ hwaddr kvm_max_slot_size = ~0;

// Where it is called

@ init @
@@
  kvm_init(...)
  {
  ...
+ kvm_layout_init(s);
  kvm_memory_listener_register(s, &s->memory_listener, &address_space_memory, 0, "kvm-memory");
  ...
  }

@ properties @
identifier oc;
@@
  kvm_accel_class_init(ObjectClass *oc, ...)
  {
  ...
+ kvm_layout_class_init(oc);
  kvm_arch_accel_class_init(oc);
  }

@ commit @
@@
  kvm_region_commit(...)
  {
  ...
  kvm_slots_lock();
+ if (kvm_layout_commit(kml)) {
+     kvm_slots_unlock();
+     return;
+ }
  ...
  }

@ held @
@@
  kvm_region_commit(...)
  {
  <...
(
- accel_ioctl_inhibit_begin();
+ kvm_layout_hold();
|
- accel_ioctl_inhibit_end();
+ kvm_layout_release();
)
  ...>
  }

// Entries of dirty rings: what is no slot's number is no index either.

@ ring @
identifier kml, slot_id, offset;
@@
  kvm_dirty_ring_mark_page(KVMState *s, uint32_t as_id, uint32_t slot_id, uint64_t offset)
  {
  ...
  kml = s->as[as_id].ml;
+ if (slot_id >= kml->nr_slots_allocated) {
+     kvm_layout_mark_removed(kml, slot_id, offset);
+     return;
+ }
  ...
  }

// virtio-mem's slots can be one.

@ accelerator @
@@
  #include "hw/virtio/virtio-mem.h"
+ #include "qemu/accel.h"

@ mergeable @
expression slot;
@@
  virtio_mem_prepare_memslots(...)
  {
  <...
- memory_region_set_unmergeable(slot, true);
+ memory_region_set_unmergeable(slot,
+                               !object_property_get_bool(OBJECT(current_accel()),
+                                                         "memslot-merge", NULL));
  ...>
  }
