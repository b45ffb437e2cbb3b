# SPDX-License-Identifier: GPL-2.0
# A look at KVM's headers, for what the compiler cannot tell: KVM_HAS_* is for compat.h.

kvm-headers := $(addprefix $(srctree)/,include/linux/kvm_host.h include/linux/kvm_dirty_ring.h \
	include/linux/workqueue.h \
	arch/x86/include/asm/kvm_host.h arch/x86/include/asm/kvm_page_track.h arch/x86/include/asm/ibt.h)

# A test says that these lines are not there.
kvm-lines = cat $(wildcard $(kvm-headers))$(if $(KVM_MEMSLOT_OPS_WITHOUT), | grep -vw '$(KVM_MEMSLOT_OPS_WITHOUT)')

# kvm-look NAME,PATTERN: NAME if a header has it
kvm-look = $(if $(shell $(kvm-lines) | grep -E '$2' | head -n1),$1)

kvm-has := $(call kvm-look,READONLY_MEM,\<kvm_arch_has_readonly_mem\>)
kvm-has += $(call kvm-look,PRIVATE_MEM,\<kvm_arch_has_private_mem\>)
kvm-has += $(call kvm-look,NR_AS_IDS,\<kvm_arch_nr_memslot_as_ids\>)
kvm-has += $(call kvm-look,ATTR_FILTER,\<attr_filter;)
# Write-tracking, and those outside KVM who want it.
kvm-has += $(call kvm-look,GFN_WRITE_TRACK,unsigned short \*gfn_write_track;)
kvm-has += $(call kvm-look,GFN_TRACK,unsigned short \*gfn_track\[)
kvm-has += $(call kvm-look,OWN_TRACKER,\<mmu_sp_tracker;)
kvm-has += $(call kvm-look,TRACK_REMOVE_REGION,\(\*track_remove_region\))
kvm-has += $(call kvm-look,TRACK_FLUSH_SLOT,\(\*track_flush_slot\))
# What a zap calls first: for a test module.
kvm-has += $(call kvm-look,INVALIDATE_BEGIN,\<kvm_mmu_invalidate_begin\>)
# Page-table pages that stand in for nx huge pages.
kvm-has += $(call kvm-look,NX_LISTS,struct kvm_possible_nx_huge_pages possible_nx_huge_pages\[)
kvm-has += $(call kvm-look,NX_LIST,struct list_head possible_nx_huge_pages;)
kvm-has += $(call kvm-look,LPAGE_DISALLOWED_LIST,struct list_head lpage_disallowed_mmu_pages;)
# How many pages KVM has for its shadow MMU.
kvm-has += $(call kvm-look,USED_MMU_PAGES,unsigned long n_used_mmu_pages;)
kvm-has += $(call kvm-look,MMU_SHADOW_PAGES,u64 mmu_shadow_pages;)
# Slots that log writes, and PML.
kvm-has += $(call kvm-look,NR_LOGGING,atomic_t nr_memslots_dirty_logging;)
kvm-has += $(call kvm-look,CPU_LOGGING_COUNT,int cpu_dirty_logging_count;)
kvm-has += $(call kvm-look,LOG_SIZE_OF_VM,kvm_cpu_dirty_log_size.struct kvm)
kvm-has += $(call kvm-look,LOG_SIZE,kvm_cpu_dirty_log_size.void)
# Whether modules can ask by is_endbr() whether an instruction is ENDBR, or need the other one.
kvm-has += $(call kvm-look,INLINE_IS_ENDBR,bool __is_endbr.u32 val)
# Whether a workqueue has to be told that it is one of a thread for each CPU.
kvm-has += $(call kvm-look,WQ_PERCPU,\<WQ_PERCPU\>)
kvm-has := $(strip $(kvm-has))

# Those on which the tests have run.
KVM_MEMSLOT_OPS_TESTED ?= 6.1 6.12 6.18 7.2 7.3

kvm-series := $(VERSION).$(PATCHLEVEL)
ccflags-y += $(addprefix -DKVM_HAS_,$(kvm-has)) -DKVM_DETECTED='"$(kvm-has)"'
ccflags-y += -DKVM_SERIES='"$(kvm-series)"' -DKVM_SERIES_TESTED='"$(KVM_MEMSLOT_OPS_TESTED)"'
ccflags-y += -DKVM_SERIES_IS_TESTED=$(if $(filter $(kvm-series),$(KVM_MEMSLOT_OPS_TESTED)),1,0)
