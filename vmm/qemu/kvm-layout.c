/* SPDX-License-Identifier: MIT */
/*
 * KVM memslots that change in place
 *
 * Where the host has the kernel module kvm_memslot_ops, a transaction that
 * cuts, unites, grows or shrinks what is mapped does not delete and create
 * slots: what stays is there all the time, and vCPUs go on running.
 * libkvm-layout finds the steps; this makes them and keeps QEMU's record of
 * slots true after each one.  vCPUs are held for those ranges only that get
 * another host address.
 *
 * Slots keep having the bounds of sections, so that whatever looks up a slot
 * by a section finds it.
 *
 * Everything here runs under the BQL and kml_slots_lock.  These are what keep
 * others from harvesting rings and logs while a step is made.  Steps are plain
 * ioctls: holders of the BQL are not subject to the inhibitor.
 */

#include "qemu/osdep.h"
#include <kvm-layout.h>

#include "qemu/bitmap.h"
#include "qemu/error-report.h"
#include "qemu/lockcnt.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "exec/memory.h"
#include "exec/ram_addr.h"
#include "hw/core/cpu.h"
#include "qom/object.h"
#include "system/accel-blocker.h"
#include "kvm-layout-int.h"
#include "trace.h"

typedef struct kvm_userspace_memory_region KVMRegion;

/* A slot that a section asks for */
typedef struct KVMLayoutTarget {
    KVMRegion region;
    ram_addr_t ram_start_offset;
    int guest_memfd;
    hwaddr guest_memfd_offset;
} KVMLayoutTarget;

/* A transaction: numbers and ranges of slots that go, and those that come */
typedef struct KVMLayoutChange {
    KVMMemoryListener *kml;
    GArray *gone;
    GArray *gone_regions;
    GArray *come;
    GArray *targets;
} KVMLayoutChange;

/*
 * What KVM_LAYOUT_STATS says: of transactions that concern slots, and of those
 * that are done as without the operations what these mean for the guest.
 * "blinks" are transactions in which memory that stays is missing for a while,
 * "replaced" are ranges that get another host address, and "most-slots" is of
 * one address space, between transactions.
 */
typedef struct KVMLayoutStats {
    const char *file;
    uint64_t transactions;
    uint64_t planned;
    uint64_t fallbacks;
    uint64_t recoveries;
    uint64_t ops[KVM_LAYOUT_SET_READONLY + 1];
    uint64_t blinks;
    uint64_t blinked_bytes;
    uint64_t replaced;
    uint64_t replaced_bytes;
    uint64_t holds;
    uint64_t kicked;
    int64_t held_ns;
    int64_t longest_ns;
    unsigned int most_slots;
} KVMLayoutStats;

static struct {
    bool wanted;
    bool merge;
    struct kvm_layout_host host;
    int64_t held_since;
    KVMLayoutStats stats;
    /* What the latest SHRINK has removed, while rings are reaped for it */
    struct {
        KVMMemoryListener *kml;
        unsigned long *bmap;
        uint64_t pages;
    } removed;
} kvm_layout = {
    .wanted = true,
    .host.dev_fd = -1,
};

static const char *const kvm_layout_op_names[] = {
    [KVM_LAYOUT_CREATE] = "create",
    [KVM_LAYOUT_DELETE] = "delete",
    [KVM_LAYOUT_FLAGS] = "flags",
    [KVM_LAYOUT_GROW] = "grow",
    [KVM_LAYOUT_SHRINK] = "shrink",
    [KVM_LAYOUT_SPLIT] = "split",
    [KVM_LAYOUT_MERGE] = "merge",
    [KVM_LAYOUT_SET_READONLY] = "set_readonly",
};

/* Holding vCPUs */

void kvm_layout_hold(void)
{
    CPUState *cpu;

    if (kvm_layout.held_since) {
        return;
    }
    CPU_FOREACH(cpu) {
        kvm_layout.stats.kicked += !!qemu_lockcnt_count(&cpu->in_ioctl_lock);
    }
    kvm_layout.stats.holds++;
    kvm_layout.held_since = get_clock();
    accel_ioctl_inhibit_begin();
}

void kvm_layout_release(void)
{
    int64_t ns;

    if (!kvm_layout.held_since) {
        return;
    }
    accel_ioctl_inhibit_end();
    ns = get_clock() - kvm_layout.held_since;
    kvm_layout.held_since = 0;
    kvm_layout.stats.held_ns += ns;
    kvm_layout.stats.longest_ns = MAX(kvm_layout.stats.longest_ns, ns);
    trace_kvm_layout_held(ns / 1000);
}

/* Slots as the library describes them, and their numbers as KVM does */

static uint32_t kvm_layout_number(KVMMemoryListener *kml, const KVMSlot *mem)
{
    return (uint32_t)kml->as_id << 16 | mem->slot;
}

static KVMRegion kvm_layout_region(KVMMemoryListener *kml, const KVMSlot *mem)
{
    return (KVMRegion) {
        .slot = kvm_layout_number(kml, mem),
        .flags = mem->flags,
        .guest_phys_addr = mem->start_addr,
        .memory_size = mem->memory_size,
        .userspace_addr = (uintptr_t)mem->ram,
    };
}

static KVMSlot *kvm_layout_slot(KVMMemoryListener *kml, uint32_t number)
{
    return &kml->slots[number & 0xffff];
}

static hwaddr kvm_layout_end(const KVMRegion *region)
{
    return region->guest_phys_addr + region->memory_size;
}

static hwaddr kvm_layout_overlap(const KVMRegion *a, const KVMRegion *b)
{
    hwaddr start = MAX(a->guest_phys_addr, b->guest_phys_addr);
    hwaddr end = MIN(kvm_layout_end(a), kvm_layout_end(b));

    return start < end ? end - start : 0;
}

static uint64_t kvm_layout_pages(uint64_t size)
{
    return size / KVM_LAYOUT_PAGE_SIZE;
}

/* From sections to slots */

/*
 * Whether KVM has, or is to have, a slot for a section: for RAM, and for ROM
 * that can be read directly.
 */
static bool kvm_layout_is_slot(MemoryRegion *mr, bool add)
{
    if (memory_region_is_ram(mr)) {
        return true;
    }
    return mr->rom_device && kvm_readonly_mem_allowed &&
           (mr->romd_mode || !add);
}

static void kvm_layout_go(KVMLayoutChange *change,
                          MemoryRegionSection *section)
{
    hwaddr start, size = 0, part;

    if (kvm_layout_is_slot(section->mr, false)) {
        size = kvm_align_section(section, &start);
    }
    while (size) {
        KVMSlot *mem;
        KVMRegion region;

        part = MIN(kvm_max_slot_size, size);
        mem = kvm_lookup_matching_slot(change->kml, start, part);
        if (!mem) {
            break;
        }
        region = kvm_layout_region(change->kml, mem);
        g_array_append_val(change->gone, region.slot);
        g_array_append_val(change->gone_regions, region);
        start += part;
        size -= part;
    }
}

static void kvm_layout_come(KVMLayoutChange *change,
                            MemoryRegionSection *section)
{
    MemoryRegion *mr = section->mr;
    hwaddr start, size, offset;

    if (!kvm_layout_is_slot(mr, true)) {
        return;
    }
    size = kvm_align_section(section, &start);
    offset = section->offset_within_region + start -
             section->offset_within_address_space;
    while (size) {
        hwaddr part = MIN(kvm_max_slot_size, size);
        uint8_t *ram = (uint8_t *)memory_region_get_ram_ptr(mr) + offset;
        KVMLayoutTarget target = {
            .region = {
                .flags = kvm_mem_flags(mr),
                .guest_phys_addr = start,
                .memory_size = part,
                .userspace_addr = (uintptr_t)ram,
            },
            .ram_start_offset = memory_region_get_ram_addr(mr) + offset,
            .guest_memfd = mr->ram_block->guest_memfd,
            .guest_memfd_offset = ram - mr->ram_block->host,
        };

        g_array_append_val(change->come, target.region);
        g_array_append_val(change->targets, target);
        start += part;
        offset += part;
        size -= part;
    }
}

static void kvm_layout_change_init(KVMLayoutChange *change,
                                   KVMMemoryListener *kml)
{
    KVMMemoryUpdate *update;

    change->kml = kml;
    change->gone = g_array_new(false, false, sizeof(uint32_t));
    change->gone_regions = g_array_new(false, false, sizeof(KVMRegion));
    change->come = g_array_new(false, false, sizeof(KVMRegion));
    change->targets = g_array_new(false, false, sizeof(KVMLayoutTarget));
    QSIMPLEQ_FOREACH(update, &kml->transaction_del, next) {
        kvm_layout_go(change, &update->section);
    }
    QSIMPLEQ_FOREACH(update, &kml->transaction_add, next) {
        kvm_layout_come(change, &update->section);
    }
}

static void kvm_layout_change_destroy(KVMLayoutChange *change)
{
    g_array_unref(change->gone);
    g_array_unref(change->gone_regions);
    g_array_unref(change->come);
    g_array_unref(change->targets);
}

/* The target that has the guest address */
static const KVMLayoutTarget *kvm_layout_target(KVMLayoutChange *change,
                                                hwaddr gpa)
{
    for (unsigned int i = 0; i < change->targets->len; i++) {
        KVMLayoutTarget *target = &g_array_index(change->targets,
                                                 KVMLayoutTarget, i);

        if (gpa - target->region.guest_phys_addr <
            target->region.memory_size) {
            return target;
        }
    }
    g_assert_not_reached();
}

/* Planning */

static gint kvm_layout_by_gpa(gconstpointer a, gconstpointer b)
{
    const KVMRegion *one = a, *other = b;

    return (one->guest_phys_addr > other->guest_phys_addr) -
           (one->guest_phys_addr < other->guest_phys_addr);
}

/* All slots; NULL for want of memory */
static struct kvm_layout *kvm_layout_present(KVMMemoryListener *kml)
{
    g_autoptr(GArray) regions = g_array_new(false, false, sizeof(KVMRegion));
    struct kvm_layout *layout;

    for (unsigned int i = 0; i < kml->nr_slots_allocated; i++) {
        if (kml->slots[i].memory_size) {
            KVMRegion region = kvm_layout_region(kml, &kml->slots[i]);

            g_array_append_val(regions, region);
        }
    }
    g_array_sort(regions, kvm_layout_by_gpa);

    layout = kvm_layout_new(kml->as_id, 0, kvm_state->nr_slots_max);
    for (unsigned int i = 0; layout && i < regions->len; i++) {
        if (kvm_layout_add(layout, &g_array_index(regions, KVMRegion, i))) {
            kvm_layout_free(layout);
            layout = NULL;
        }
    }
    return layout;
}

static int kvm_layout_plan_change(const struct kvm_layout_host *host,
                                  KVMLayoutChange *change,
                                  struct kvm_layout_plan **plan)
{
    struct kvm_layout *layout = kvm_layout_present(change->kml);
    int error = -ENOMEM;

    if (layout) {
        error = kvm_layout_plan(host, layout,
                                (uint32_t *)change->gone->data,
                                change->gone->len,
                                (KVMRegion *)change->come->data,
                                change->come->len, KVM_LAYOUT_PARTITION, plan);
    }
    kvm_layout_free(layout);
    return error;
}

/* Room for all slots that there will be at some time */
static void kvm_layout_make_room(KVMMemoryListener *kml,
                                 const struct kvm_layout_step *steps,
                                 size_t nr)
{
    unsigned int wanted = 0;

    for (size_t i = 0; i < nr; i++) {
        wanted = MAX(wanted, (steps[i].before.slot & 0xffff) + 1);
        for (size_t j = 0; j < steps[i].nr_others; j++) {
            wanted = MAX(wanted, (steps[i].others[j].slot & 0xffff) + 1);
        }
    }
    if (wanted > kml->nr_slots_allocated) {
        kvm_slots_grow(kml, MAX(wanted, 2 * kml->nr_slots_allocated));
    }
}

/* Bookkeeping: each function brings kml->slots up to date after a step */

/* The slot's bitmap gets the size of @size bytes of memory */
static void kvm_layout_resize_bmap(KVMSlot *mem, hwaddr size)
{
    uint64_t pages = kvm_layout_pages(size);
    unsigned long bytes = ROUND_UP(pages, 64) / 8;

    if (!mem->dirty_bmap) {
        return;
    }
    mem->dirty_bmap = g_realloc(mem->dirty_bmap, bytes);
    if (bytes > mem->dirty_bmap_size) {
        memset((char *)mem->dirty_bmap + mem->dirty_bmap_size, 0,
               bytes - mem->dirty_bmap_size);
    } else {
        bitmap_clear(mem->dirty_bmap, pages, bytes * 8 - pages);
    }
    mem->dirty_bmap_size = bytes;
}

/* Set bits of @to from @to_first on where those of @from are set */
static void kvm_layout_copy_bits(unsigned long *to, uint64_t to_first,
                                 const unsigned long *from,
                                 uint64_t from_first, uint64_t nr)
{
    unsigned long end = from_first + nr, bit;

    for (bit = find_next_bit(from, end, from_first); bit < end;
         bit = find_next_bit(from, end, bit + 1)) {
        set_bit(bit - from_first + to_first, to);
    }
}

static void kvm_layout_drop(KVMMemoryListener *kml, KVMSlot *mem)
{
    g_free(mem->dirty_bmap);
    mem->dirty_bmap = NULL;
    mem->dirty_bmap_size = 0;
    mem->memory_size = 0;
    mem->flags = mem->old_flags = 0;
    kml->nr_slots_used--;
}

/* All that a region says of the slot, and its bitmap if it logs and has none */
static void kvm_layout_set(KVMMemoryListener *kml, KVMSlot *mem,
                           const KVMRegion *region)
{
    mem->as_id = kml->as_id;
    mem->start_addr = region->guest_phys_addr;
    mem->memory_size = region->memory_size;
    mem->ram = (void *)(uintptr_t)region->userspace_addr;
    mem->flags = mem->old_flags = region->flags;
    kvm_slot_init_dirty_bitmap(mem);
}

static void kvm_layout_created(KVMLayoutChange *change, KVMSlot *mem,
                               const KVMRegion *region)
{
    const KVMLayoutTarget *target = kvm_layout_target(change,
                                                      region->guest_phys_addr);
    hwaddr offset = region->guest_phys_addr - target->region.guest_phys_addr;

    mem->ram_start_offset = target->ram_start_offset + offset;
    mem->guest_memfd = target->guest_memfd;
    mem->guest_memfd_offset = target->guest_memfd_offset + offset;
    kvm_layout_set(change->kml, mem, region);
    change->kml->nr_slots_used++;
}

static void kvm_layout_resized(KVMMemoryListener *kml, KVMSlot *mem,
                               const KVMRegion *region)
{
    if (region->memory_size) {
        kvm_layout_resize_bmap(mem, region->memory_size);
        kvm_layout_set(kml, mem, region);
    } else {
        kvm_layout_drop(kml, mem);
    }
}

static void kvm_layout_split_off(KVMMemoryListener *kml, const KVMSlot *whole,
                                 KVMSlot *mem, const KVMRegion *region)
{
    hwaddr offset = region->guest_phys_addr - whole->start_addr;
    uint64_t pages = kvm_layout_pages(region->memory_size);

    mem->ram_start_offset = whole->ram_start_offset + offset;
    mem->guest_memfd = whole->guest_memfd;
    mem->guest_memfd_offset = whole->guest_memfd_offset + offset;
    if (whole->dirty_bmap) {
        mem->dirty_bmap_size = ROUND_UP(pages, 64) / 8;
        mem->dirty_bmap = g_malloc0(mem->dirty_bmap_size);
        kvm_layout_copy_bits(mem->dirty_bmap, 0, whole->dirty_bmap,
                             kvm_layout_pages(offset), pages);
    }
    kvm_layout_set(kml, mem, region);
    kml->nr_slots_used++;
}

static void kvm_layout_merge_bmap(KVMSlot *whole, const KVMSlot *mem)
{
    hwaddr offset = mem->start_addr - whole->start_addr;

    if (!mem->dirty_bmap) {
        return;
    }
    if (!whole->dirty_bmap) {
        whole->dirty_bmap_size = 8;
        whole->dirty_bmap = g_malloc0(whole->dirty_bmap_size);
    }
    kvm_layout_resize_bmap(whole, offset + mem->memory_size);
    kvm_layout_copy_bits(whole->dirty_bmap, kvm_layout_pages(offset),
                         mem->dirty_bmap, 0,
                         kvm_layout_pages(mem->memory_size));
}

static void kvm_layout_note(KVMLayoutChange *change,
                            const struct kvm_layout_step *step)
{
    KVMMemoryListener *kml = change->kml;
    KVMSlot *mem = kvm_layout_slot(kml, step->before.slot);

    switch (step->op) {
    case KVM_LAYOUT_CREATE:
        kvm_layout_created(change, mem, &step->after);
        break;
    case KVM_LAYOUT_DELETE:
    case KVM_LAYOUT_GROW:
    case KVM_LAYOUT_SHRINK:
        kvm_layout_resized(kml, mem, &step->after);
        break;
    case KVM_LAYOUT_FLAGS:
    case KVM_LAYOUT_SET_READONLY:
        kvm_layout_set(kml, mem, &step->after);
        break;
    case KVM_LAYOUT_SPLIT:
        for (size_t i = 0; i < step->nr_others; i++) {
            kvm_layout_split_off(kml, mem,
                                 kvm_layout_slot(kml, step->others[i].slot),
                                 &step->others[i]);
        }
        kvm_layout_resized(kml, mem, &step->after);
        break;
    case KVM_LAYOUT_MERGE:
        for (size_t i = 0; i < step->nr_others; i++) {
            KVMSlot *other = kvm_layout_slot(kml, step->others[i].slot);

            kvm_layout_merge_bmap(mem, other);
            kvm_layout_drop(kml, other);
        }
        kvm_layout_resized(kml, mem, &step->after);
        break;
    }
}

/* Dirty pages */

/* Everything that is known of a slot that is about to forget it */
static void kvm_layout_harvest(KVMSlot *mem)
{
    KVMState *s = kvm_state;

    if (s->kvm_dirty_ring_size) {
        kvm_dirty_ring_reap_locked(s, NULL);
        kvm_slot_sync_dirty_pages(mem);
        kvm_slot_reset_dirty_pages(mem);
        if (!s->kvm_dirty_ring_with_bitmap) {
            return;
        }
    }
    if (kvm_slot_get_dirty_log(s, mem)) {
        kvm_slot_sync_dirty_pages(mem);
    }
}

void kvm_layout_mark_removed(KVMMemoryListener *kml, uint32_t slot_id,
                             uint64_t offset)
{
    if (slot_id == KVM_LAYOUT_REMOVED_ID && kml == kvm_layout.removed.kml &&
        offset < kvm_layout.removed.pages) {
        set_bit(offset, kvm_layout.removed.bmap);
    }
}

/* Make the step's call */
static int kvm_layout_call(const struct kvm_layout_host *host,
                           KVMLayoutChange *change,
                           const struct kvm_layout_step *step)
{
    int error = kvm_layout_step_call(host, step, NULL);

    if (!error) {
        kvm_layout_note(change, step);
    }
    return error;
}

/*
 * Make the call of a step that removes memory which logs, and tell who wants to
 * know which pages of it are dirty: by KVM's bitmap, by entries of the rings
 * that were there before, and by those that came until it was gone.
 */
static int kvm_layout_call_tail(const struct kvm_layout_host *host,
                                KVMLayoutChange *change,
                                const struct kvm_layout_step *step)
{
    KVMState *s = kvm_state;
    KVMMemoryListener *kml = change->kml;
    KVMSlot *mem = kvm_layout_slot(kml, step->before.slot);
    ram_addr_t start = mem->ram_start_offset + step->after.memory_size;
    uint64_t first = kvm_layout_pages(step->after.memory_size);
    uint64_t pages = kvm_layout_pages(step->before.memory_size) - first;
    bool rings = s->kvm_dirty_ring_size;
    bool bitmap = !rings || s->kvm_dirty_ring_with_bitmap;
    g_autofree unsigned long *bmap = g_malloc0(ROUND_UP(pages, 64) / 8);
    int error;

    if (rings) {
        kvm_dirty_ring_reap_locked(s, NULL);
    }
    error = kvm_layout_step_call(host, step, bitmap ? (uint64_t *)bmap : NULL);
    if (error) {
        return error;
    }
    if (rings && mem->dirty_bmap) {
        kvm_layout_copy_bits(bmap, 0, mem->dirty_bmap, first, pages);
    }
    kvm_layout_note(change, step);
    if (rings) {
        kvm_layout.removed.kml = kml;
        kvm_layout.removed.bmap = bmap;
        kvm_layout.removed.pages = pages;
        kvm_dirty_ring_reap_locked(s, NULL);
        kvm_layout.removed.kml = NULL;
    }
    cpu_physical_memory_set_dirty_lebitmap(bmap, start, pages);
    return 0;
}

/* Carrying a plan out */

static int kvm_layout_make_step(const struct kvm_layout_host *host,
                                KVMLayoutChange *change,
                                const struct kvm_layout_step *step)
{
    int error;

    if (step->flags & KVM_LAYOUT_HARVEST) {
        kvm_layout_harvest(kvm_layout_slot(change->kml, step->before.slot));
    }
    if (step->flags & KVM_LAYOUT_DIRTY_TAIL) {
        error = kvm_layout_call_tail(host, change, step);
    } else {
        error = kvm_layout_call(host, change, step);
    }
    trace_kvm_layout_step(kvm_layout_op_names[step->op], step->before.slot,
                          step->before.guest_phys_addr,
                          step->before.memory_size, step->after.memory_size,
                          step->after.flags, step->nr_others, error);
    if (!error) {
        kvm_layout.stats.ops[step->op]++;
    }
    return error;
}

/* Stops where a step fails; vCPUs are held then if something is missing. */
static int kvm_layout_carry_out(const struct kvm_layout_host *host,
                                KVMLayoutChange *change,
                                const struct kvm_layout_plan *plan,
                                size_t *done)
{
    const struct kvm_layout_step *steps;
    bool missing = kvm_layout.held_since;
    int error = 0;
    size_t nr;

    steps = kvm_layout_plan_steps(plan, &nr);
    kvm_layout_make_room(change->kml, steps, nr);
    for (*done = 0; *done < nr; ++*done) {
        const struct kvm_layout_step *step = &steps[*done];

        if (step->flags & KVM_LAYOUT_GAP) {
            kvm_layout_hold();
        }
        error = kvm_layout_make_step(host, change, step);
        if (error) {
            break;
        }
        missing = step->flags & KVM_LAYOUT_GAP;
        if (!missing) {
            kvm_layout_release();
        }
    }
    if (!missing) {
        kvm_layout_release();
    }
    return error;
}

/*
 * A step has failed after others had succeeded: from what there is now to what
 * is wanted by KVM's own means.
 */
static void kvm_layout_recover(KVMLayoutChange *change, int why)
{
    const struct kvm_layout_host plain = {
        .vm_fd = kvm_state->vmfd,
        .dev_fd = -1,
    };
    KVMMemoryListener *kml = change->kml;
    struct kvm_layout_plan *plan = NULL;
    size_t done;
    int error;

    warn_report("memslots cannot be changed in place: %s", strerror(-why));
    kvm_layout.stats.recoveries++;
    g_array_set_size(change->gone, 0);
    for (unsigned int i = 0; i < kml->nr_slots_allocated; i++) {
        KVMSlot *mem = &kml->slots[i];
        KVMRegion region = kvm_layout_region(kml, mem);
        bool concerned = false;

        for (unsigned int j = 0; j < change->gone_regions->len; j++) {
            concerned |= kvm_layout_overlap(&region,
                &g_array_index(change->gone_regions, KVMRegion, j));
        }
        for (unsigned int j = 0; j < change->come->len; j++) {
            concerned |= kvm_layout_overlap(&region,
                &g_array_index(change->come, KVMRegion, j));
        }
        if (concerned) {
            g_array_append_val(change->gone, region.slot);
        }
    }
    error = kvm_layout_plan_change(&plain, change, &plan);
    if (!error) {
        error = kvm_layout_carry_out(&plain, change, plan, &done);
        kvm_layout_plan_free(plan);
        kvm_layout_release();
    }
    if (error) {
        error_report("%s: memslots are lost: %s", __func__, strerror(-error));
        abort();
    }
}

/* Of the slots that the sections asked for, what no step knows */
static void kvm_layout_settle(KVMLayoutChange *change)
{
    for (unsigned int i = 0; i < change->targets->len; i++) {
        KVMLayoutTarget *target = &g_array_index(change->targets,
                                                 KVMLayoutTarget, i);
        KVMSlot *mem = kvm_lookup_matching_slot(change->kml,
                                                target->region.guest_phys_addr,
                                                target->region.memory_size);

        assert(mem && mem->flags == target->region.flags &&
               (uintptr_t)mem->ram == target->region.userspace_addr);
        mem->ram_start_offset = target->ram_start_offset;
        mem->guest_memfd = target->guest_memfd;
        mem->guest_memfd_offset = target->guest_memfd_offset;
    }
}

/* What of a plan a guest could notice if vCPUs ran */
static void kvm_layout_count_plan(const struct kvm_layout_plan *plan)
{
    const struct kvm_layout_gap *gaps;
    KVMLayoutStats *stats = &kvm_layout.stats;
    bool blinks = false;
    size_t nr;

    gaps = kvm_layout_plan_gaps(plan, &nr);
    for (size_t i = 0; i < nr; i++) {
        if (gaps[i].replaced) {
            stats->replaced_bytes += gaps[i].size;
            stats->replaced++;
        } else {
            stats->blinked_bytes += gaps[i].size;
            blinks = true;
        }
    }
    stats->planned++;
    stats->blinks += blinks;
}

/* The same of deleting all that goes and creating all that comes */
static void kvm_layout_count_plain(KVMLayoutChange *change)
{
    KVMLayoutStats *stats = &kvm_layout.stats;
    uint64_t blinked = 0;

    for (unsigned int i = 0; i < change->gone_regions->len; i++) {
        KVMRegion *old = &g_array_index(change->gone_regions, KVMRegion, i);

        for (unsigned int j = 0; j < change->come->len; j++) {
            KVMRegion *new = &g_array_index(change->come, KVMRegion, j);
            uint64_t size = kvm_layout_overlap(old, new);

            if (old->userspace_addr - old->guest_phys_addr ==
                new->userspace_addr - new->guest_phys_addr) {
                blinked += size;
            } else {
                stats->replaced += !!size;
                stats->replaced_bytes += size;
            }
        }
    }
    stats->ops[KVM_LAYOUT_DELETE] += change->gone->len;
    stats->ops[KVM_LAYOUT_CREATE] += change->come->len;
    stats->blinks += !!blinked;
    stats->blinked_bytes += blinked;
}

/* The transaction is over. */
static void kvm_layout_drain(KVMMemoryListener *kml)
{
    KVMMemoryUpdate *update, *next;

    QSIMPLEQ_FOREACH_SAFE(update, &kml->transaction_del, next, next) {
        memory_region_unref(update->section.mr);
        g_free(update);
    }
    QSIMPLEQ_FOREACH_SAFE(update, &kml->transaction_add, next, next) {
        g_free(update);
    }
    QSIMPLEQ_INIT(&kml->transaction_del);
    QSIMPLEQ_INIT(&kml->transaction_add);
}

static bool kvm_layout_try(KVMLayoutChange *change)
{
    KVMMemoryListener *kml = change->kml;
    struct kvm_layout_plan *plan = NULL;
    KVMMemoryUpdate *update;
    size_t nr, done = 0;
    int error;

    error = kvm_layout_plan_change(&kvm_layout.host, change, &plan);
    if (error) {
        trace_kvm_layout_fallback(kml->as_id, strerror(-error));
        return false;
    }

    QSIMPLEQ_FOREACH(update, &kml->transaction_add, next) {
        memory_region_ref(update->section.mr);
    }
    error = kvm_layout_carry_out(&kvm_layout.host, change, plan, &done);
    if (error && !done) {
        QSIMPLEQ_FOREACH(update, &kml->transaction_add, next) {
            memory_region_unref(update->section.mr);
        }
        kvm_layout_plan_free(plan);
        trace_kvm_layout_fallback(kml->as_id, strerror(-error));
        return false;
    }
    if (error) {
        kvm_layout_recover(change, error);
    }
    kvm_layout_settle(change);
    kvm_layout_drain(kml);
    if (change->gone->len || change->come->len) {
        kvm_layout_count_plan(plan);
    }
    kvm_layout_plan_steps(plan, &nr);
    trace_kvm_layout_commit(kml->as_id, change->gone->len, change->come->len,
                            nr, kml->nr_slots_used);
    kvm_layout_plan_free(plan);
    return true;
}

bool kvm_layout_commit(KVMMemoryListener *kml)
{
    KVMLayoutStats *stats = &kvm_layout.stats;
    KVMLayoutChange change;
    unsigned int slots;
    bool done = false;

    if (!kvm_layout.host.ops && !stats->file) {
        return false;
    }
    assert(bql_locked());
    kvm_layout_change_init(&change, kml);
    slots = kml->nr_slots_used - change.gone->len + change.come->len;
    stats->most_slots = MAX(stats->most_slots, slots);
    stats->transactions += change.gone->len || change.come->len;
    if (kvm_layout.host.ops) {
        done = kvm_layout_try(&change);
        stats->fallbacks += !done;
    }
    if (!done) {
        kvm_layout_count_plain(&change);
    }
    kvm_layout_change_destroy(&change);
    return done;
}

/* A line of "name=value" */
static void kvm_layout_write_stats(void)
{
    KVMLayoutStats *stats = &kvm_layout.stats;
    FILE *file = fopen(stats->file, "w");

    if (!file) {
        warn_report("%s: %s", stats->file, strerror(errno));
        return;
    }
    fprintf(file, "memslot-ops=%s transactions=%" PRIu64 " planned=%" PRIu64
            " fallbacks=%" PRIu64 " recoveries=%" PRIu64,
            kvm_layout.host.ops ? "on" : "off", stats->transactions,
            stats->planned, stats->fallbacks, stats->recoveries);
    for (int i = 0; i < ARRAY_SIZE(stats->ops); i++) {
        fprintf(file, " %s=%" PRIu64, kvm_layout_op_names[i], stats->ops[i]);
    }
    fprintf(file, " blinks=%" PRIu64 " blinked-bytes=%" PRIu64
            " replaced=%" PRIu64 " replaced-bytes=%" PRIu64
            " holds=%" PRIu64 " kicked=%" PRIu64 " held-us=%" PRId64
            " longest-us=%" PRId64 " most-slots=%u\n",
            stats->blinks, stats->blinked_bytes, stats->replaced,
            stats->replaced_bytes, stats->holds, stats->kicked,
            stats->held_ns / 1000, stats->longest_ns / 1000,
            stats->most_slots);
    fclose(file);
}

void kvm_layout_init(KVMState *s)
{
    int error = 0;

    kvm_layout.stats.file = getenv("KVM_LAYOUT_STATS");
    if (kvm_layout.stats.file) {
        atexit(kvm_layout_write_stats);
    }
    if (kvm_layout.wanted &&
        qemu_real_host_page_size() == KVM_LAYOUT_PAGE_SIZE) {
        error = kvm_layout_host_open(s->vmfd, &kvm_layout.host);
    }
    if (error) {
        warn_report("memslots will not be changed in place: %s",
                    strerror(-error));
    }
    trace_kvm_layout_init(kvm_layout.host.ops);
}

static bool kvm_layout_get_wanted(Object *obj, Error **errp)
{
    return kvm_layout.wanted;
}

static void kvm_layout_set_wanted(Object *obj, bool value, Error **errp)
{
    kvm_layout.wanted = value;
}

static bool kvm_layout_get_merge(Object *obj, Error **errp)
{
    const uint32_t needed = 1U << KVM_LAYOUT_GROW | 1U << KVM_LAYOUT_SHRINK;

    return kvm_layout.merge && (kvm_layout.host.ops & needed) == needed;
}

static void kvm_layout_set_merge(Object *obj, bool value, Error **errp)
{
    kvm_layout.merge = value;
}

void kvm_layout_class_init(ObjectClass *oc)
{
    object_class_property_add_bool(oc, "memslot-ops", kvm_layout_get_wanted,
                                   kvm_layout_set_wanted);
    object_class_property_set_description(oc, "memslot-ops",
        "Change memslots in place where the host's kernel can "
        "(default: on)");
    object_class_property_add_bool(oc, "memslot-merge", kvm_layout_get_merge,
                                   kvm_layout_set_merge);
    object_class_property_set_description(oc, "memslot-merge",
        "With memslot-ops, let a virtio-mem device with dynamic memslots use "
        "one that grows and shrinks; not for guests with VFIO devices, whose "
        "mappings would go and come with it (default: off)");
}
