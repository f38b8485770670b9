/* SPDX-License-Identifier: MIT */
#include "slab_stand.h"

int players_setup(void **state)
{
	int failed = fake_place_setup(state);

	players_begin();
	return failed;
}

struct stand *stand_begin(void *state, size_t size)
{
	static struct stand stand;

	stand.count = 0;
	stand.pool = pool_create("stand", &((struct fake_place *)state)->place, size, 0, 0);
	assert_non_null(stand.pool);
	return &stand;
}

void stand_end(struct stand *s)
{
	stand_free_last(s, s->count);
	expect_statistics_hold(s->pool);
	assert_int_equal(stats_of(s->pool).bad_frees, 0);
	dma_pool_destroy(s->pool);
	assert_string_equal(log_text(), "");
}

void stand_take(struct stand *s, size_t n, gfp_t gfp)
{
	while (n--) {
		size_t i = s->count++;

		assert_in_range(i, 0, STAND_BLOCKS - 1);
		s->vaddrs[i] = dma_pool_alloc(s->pool, gfp, &s->handles[i]);
		assert_non_null(s->vaddrs[i]);
	}
}

void stand_free(struct stand *s, size_t i)
{
	dma_pool_free(s->pool, s->vaddrs[i], s->handles[i]);
	s->count--;
	s->vaddrs[i] = s->vaddrs[s->count];
	s->handles[i] = s->handles[s->count];
}

void stand_free_last(struct stand *s, size_t n)
{
	while (n--)
		stand_free(s, s->count - 1);
}

struct dmaland_pool_stats stats_of(struct dma_pool *pool)
{
	struct dmaland_pool_stats stats;

	dmaland_pool_get_stats(pool, &stats);
	return stats;
}

struct cache *cache_of(struct dma_pool *pool, unsigned int player)
{
	return &pool->caches[player_number_of(player)];
}

struct page *slab_of(struct dma_pool *pool, const void *block)
{
	uint32_t number;
	struct cache *cache = cache_of_thread(pool);
	struct page *at = cache->at, *slab = slab_find(pool, cache, block, &number);

	cache->at = at;
	assert_non_null(slab);
	assert_ptr_equal(slab_base(pool, slab) + number * pool->stride, block);
	return slab;
}

bool slab_is_owned_by(const struct page *slab, const struct cache *cache)
{
	return owner_is(slab_owner(slab), cache);
}

size_t list_length(const struct dma_pool *pool, uint32_t list)
{
	size_t n = 0;

	for (; list; list = slab_at(pool, list)->next)
		n++;
	return n;
}

struct census {
	struct dma_pool *pool;
	size_t pages, slabs, blocks, out, free_owned, idle;
};

static void count_run(struct arena *arena, struct page *run, void *context)
{
	struct census *c = context;
	struct dma_pool *pool = c->pool;
	struct page *first = run;

	if (pool->slabs_a_page > 1)
		first = slab_entry(pool, pagemap_address(&arena->pagemap, run));
	c->pages += run->run_pages;
	for (uint32_t i = 0; i < pool->slabs_a_page; i++) {
		const struct page *slab = &first[i];
		size_t blocks = slab_blocks(pool, slab);
		size_t out = (size_t)__builtin_popcountll(pool->full & ~slab_back(slab));

		assert_int_equal(slab->free & slab->remote, 0);
		c->slabs++;
		c->blocks += blocks;
		c->out += out;
		switch (slab_owner(slab)) {
		case SLAB_NONE:
		case SLAB_NAMED:
			fail_msg("a slab of the pool is none");
			break;
		case SLAB_IDLE:
			c->idle++;
			assert_int_equal(out, 0);
			break;
		case SLAB_TRIMMED:
			assert_int_equal(out, 0);
			break;
		default:
			c->free_owned += blocks - out;
		}
	}
}

void expect_statistics_hold(struct dma_pool *pool)
{
	struct dmaland_pool_stats stats = stats_of(pool);
	struct census c = {.pool = pool};
	size_t reserved = 0;

	for (uint32_t i = 1; i < thread_numbers(); i++) {
		reserved += pool->caches[i].reserved;
		assert_int_equal(list_length(pool, pool->caches[i].idle),
				 pool->caches[i].idle_count);
		assert_in_range(pool->caches[i].idle_count, 0, pool->idle_max);
	}
	arena_for_each_run_of(pool->place.arena, &pool->tenant, count_run, &c);
	assert_int_equal(stats.pages, c.pages);
	assert_int_equal(stats.total, c.blocks);
	assert_int_equal(stats.in_use, c.out + reserved);
	assert_int_equal(stats.parked, c.free_owned - reserved);
	assert_int_equal(idle_stack_depth(pool), c.idle);
	assert_true(stats.high_water >= stats.total);
}
