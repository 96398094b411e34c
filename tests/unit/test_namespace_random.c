/*
 * Random operations on the namespace, each checked against a flat map of paths, and the changes
 * they give checked by loading what they wrote: the reloaded tree must be the same to the byte.
 * SEED=n replays one seed.
 */
#include "namespace_model.h"

#include <inttypes.h>

#include "master/index.h"

#define TREE_MAX   1500u /* snapshots make it no larger */
#define STARTS     64u   /* each of them claims 2^20 handles */
#define HANDLES    8192u /* used of them */
#define TEXT_BYTES (8u << 20)

struct world {
    struct fixture fx;
    struct model model;
    uint64_t random;
    uint32_t contents[STARTS][HANDLES]; /* by handle: what its replicas would hold */
    uint32_t last_token;
    uint32_t snapshots, unshared;
};

static uint64_t draw(struct world *world, uint64_t below)
{
    world->random = index_mix(world->random + 0x9e3779b97f4a7c15u);
    return world->random % below;
}

static void draw_path(struct world *world, char *ret_path)
{
    static const char *names[] = {"a", "b", "cc", "d\xff", "long-name-of-an-entry"};
    uint64_t depth = 1 + draw(world, 4);
    ret_path[0] = '\0';
    for (uint64_t i = 0; i < depth; i++) {
        const char *name = names[draw(world, i == 3 ? 2 : 5)];
        if (strlen(ret_path) + strlen(name) + 2 < PATH_BYTES) {
            strcat(strcat(ret_path, "/"), name);
        }
    }
}

static uint32_t *content(struct world *world, const struct chunk *chunk)
{
    uint64_t start = chunk->handle >> 20;
    uint64_t number = chunk->handle & ((1u << 20) - 1);
    assert_true(start < STARTS && number < HANDLES);
    return &world->contents[start][number];
}

/* What the service does before it lets a chunk be changed. */
static struct chunk *unshare(struct world *world, struct inode *inode, uint32_t index)
{
    struct fixture *fx = &world->fx;
    struct chunk *chunk = ns_chunk_at(fx->ns, inode, index);
    struct chunk *copy;
    uint64_t handle;
    assert_int_equal(ns_take_handle(fx->ns, &fx->changes, &handle), GFS_OK);
    if (chunk->references == 1) {
        assert_int_equal(ns_chunk_replace(fx->ns, inode, index, handle, fx->now_ms, &fx->changes,
                                          &copy),
                         GFS_ERR_INVAL);
        return chunk;
    }
    struct ns_commit_chunk commit = {index, chunk->handle, chunk->version, chunk->length_bytes + 1};
    if (chunk->length_bytes < GFS_CHUNK_SIZE_MIN_BYTES) {
        assert_int_equal(ns_commit_check(fx->ns, inode, 0, &commit, 1), GFS_ERR_STALE_VERSION);
    }
    struct chunk was = *chunk;
    uint64_t family = ns_chunk_family(fx->ns, chunk);
    bool maker = ns_chunk_owner(fx->ns, chunk) == inode;
    uint32_t token = *content(world, chunk);
    assert_int_equal(ns_chunk_replace(fx->ns, inode, index, handle, fx->now_ms, &fx->changes,
                                      &copy),
                     GFS_OK);
    assert_int_equal(copy->handle, handle);
    assert_int_equal(copy->length_bytes, was.length_bytes);
    assert_int_equal(copy->truncating, was.truncating || !maker);
    assert_int_equal(copy->cuts, was.cuts);
    assert_int_equal(ns_chunk_family(fx->ns, copy), family);
    assert_int_equal(chunk->references, was.references - 1);
    *content(world, copy) = token;
    world->unshared++;
    return copy;
}

/* ---- operations ---------------------------------------------------------------------------- */
static void do_create(struct world *world, const char *path)
{
    struct model *model = &world->model;
    bool exclusive = draw(world, 2);
    enum gfs_err want = model_resolve(model, path);
    const struct model_node *there = model_find(model, path);
    if (want == GFS_OK && there != NULL) {
        want = exclusive ? GFS_ERR_EXISTS : there->is_dir ? GFS_ERR_IS_DIR : GFS_OK;
    }
    struct inode *inode;
    assert_int_equal(fixture_create(&world->fx, path, exclusive, false, &inode), want);
    if (want == GFS_OK && there == NULL) {
        model_add(model, path, false);
    }
}

static void do_publish(struct world *world, const char *path)
{
    struct model *model = &world->model;
    struct fixture *fx = &world->fx;
    struct inode *inode;
    if (fixture_create(fx, path, false, true, &inode) != GFS_OK) {
        return;
    }
    struct chunk *chunk;
    assert_int_equal(ns_chunk_create(fx->ns, inode, 0, &fx->changes, &chunk), GFS_OK);
    *content(world, chunk) = ++world->last_token;
    struct ns_commit_chunk commit = {0, chunk->handle, 1, 100};
    assert_int_equal(ns_commit(fx->ns, inode, 100, &commit, 1, fx->now_ms, &fx->changes), GFS_OK);
    uint64_t what = draw(world, 4);
    if (what == 0) {
        assert_int_equal(ns_abandon(fx->ns, inode, fx->now_ms, &fx->changes), GFS_OK);
        return;
    }
    if (what == 1) {
        return; /* stays anonymous */
    }
    bool replace = draw(world, 2);
    enum gfs_err want = model_resolve(model, path);
    struct model_node *there = model_find(model, path);
    if (want == GFS_OK && there != NULL) {
        want = there->is_dir ? GFS_ERR_IS_DIR : replace ? GFS_OK : GFS_ERR_EXISTS;
    }
    assert_int_equal(ns_publish(fx->ns, inode, path, strlen(path), replace, fx->now_ms,
                                &fx->changes),
                     want);
    if (want == GFS_OK) {
        model_remove(model, path);
        model_add(model, path, false);
        model_find(model, path)->length_bytes = 100;
        model_find(model, path)->tokens[0] = *content(world, chunk);
    }
}

static void do_mkdir(struct world *world, const char *path)
{
    struct model *model = &world->model;
    bool parents = draw(world, 2);
    enum gfs_err want = model_resolve(model, path);
    const struct model_node *there = model_find(model, path);
    if (parents && want == GFS_ERR_NOT_FOUND) {
        want = GFS_OK;
    } else if (want == GFS_OK && there != NULL && !(parents && there->is_dir)) {
        want = GFS_ERR_EXISTS;
    }
    assert_int_equal(fixture_mkdir(&world->fx, path, parents), want);
    if (want != GFS_OK) {
        return;
    }
    char prefix[PATH_BYTES];
    for (size_t i = 1; i <= strlen(path); i++) {
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(prefix, path, i);
            prefix[i] = '\0';
            if (model_find(model, prefix) == NULL) {
                model_add(model, prefix, true);
            }
        }
    }
}

static void do_remove(struct world *world, const char *path)
{
    struct model *model = &world->model;
    bool directory = draw(world, 2);
    bool recursive = draw(world, 8) == 0;
    enum gfs_err want = model_lookup(model, path);
    if (want == GFS_OK) {
        bool is_dir = model_find(model, path)->is_dir;
        if (directory && !is_dir) {
            want = GFS_ERR_NOT_DIR;
        } else if (is_dir && !directory && !recursive) {
            want = GFS_ERR_IS_DIR;
        } else if (!recursive && model_children(model, path) > 0) {
            want = GFS_ERR_NOT_EMPTY;
        }
    }
    assert_int_equal(fixture_remove(&world->fx, path, directory, recursive), want);
    if (want == GFS_OK) {
        model_remove(model, path);
    }
}

static void do_rename(struct world *world, const char *from)
{
    struct model *model = &world->model;
    char to[PATH_BYTES];
    draw_path(world, to);
    bool no_replace = draw(world, 2);
    enum gfs_err want = model_rename_check(model, from, to, no_replace);
    assert_int_equal(fixture_rename(&world->fx, from, to, no_replace), want);
    if (want != GFS_OK || strcmp(from, to) == 0) {
        return;
    }
    model_remove(model, to);
    size_t len = strlen(from);
    for (size_t i = 0; i < model->count; i++) {
        struct model_node *node = &model->nodes[i];
        if (strcmp(node->path, from) == 0 || model_below(node, from)) {
            char moved[2 * PATH_BYTES];
            snprintf(moved, sizeof(moved), "%s%s", to, node->path + len);
            assert_true(strlen(moved) < PATH_BYTES);
            strcpy(node->path, moved);
        }
    }
}

static void do_write(struct world *world, const char *path)
{
    struct fixture *fx = &world->fx;
    struct model_node *node = model_find(&world->model, path);
    struct inode *inode;
    if (node == NULL || node->is_dir) {
        return;
    }
    assert_int_equal(fixture_lookup(fx, path, &inode), GFS_OK);
    uint32_t index = (uint32_t)draw(world, draw(world, 4) == 0 ? 300 : 3);
    struct chunk *chunk = ns_chunk_at(fx->ns, inode, index);
    if (chunk == NULL) {
        assert_int_equal(ns_chunk_create(fx->ns, inode, index, &fx->changes, &chunk), GFS_OK);
    } else {
        chunk = unshare(world, inode, index);
        if (ns_chunk_claim(fx->ns, inode, chunk)) {
            assert_true(chunk->truncating);
        }
        assert_ptr_equal(ns_chunk_owner(fx->ns, chunk), inode);
        assert_false(ns_chunk_claim(fx->ns, inode, chunk));
    }
    if (chunk->truncating || draw(world, 3) == 0) {
        assert_int_equal(ns_chunk_set_version(fx->ns, chunk, chunk->version + 1, &fx->changes),
                         GFS_OK);
    }
    *content(world, chunk) = ++world->last_token;
    if (index < TOKENS) {
        node->tokens[index] = world->last_token;
    }
    uint32_t length = (uint32_t)draw(world, GFS_CHUNK_SIZE_MIN_BYTES) + 1;
    struct ns_commit_chunk commit = {index, chunk->handle, chunk->version, length};
    assert_int_equal(ns_commit(fx->ns, inode, 0, &commit, 1, fx->now_ms, &fx->changes), GFS_OK);
    uint64_t end = (uint64_t)index * GFS_CHUNK_SIZE_MIN_BYTES + length;
    node->length_bytes = end > node->length_bytes ? end : node->length_bytes;
    commit.version++;
    assert_int_equal(ns_commit(fx->ns, inode, 0, &commit, 1, fx->now_ms, &fx->changes),
                     GFS_ERR_STALE_VERSION);
}

static void do_truncate(struct world *world, const char *path)
{
    struct fixture *fx = &world->fx;
    struct model_node *node = model_find(&world->model, path);
    struct inode *inode;
    if (node == NULL || node->is_dir) {
        return;
    }
    assert_int_equal(fixture_lookup(fx, path, &inode), GFS_OK);
    uint64_t length = draw(world, draw(world, 2) == 0 ? 3 << 20 : 1 + (300ull << 20));
    struct chunk *cut;
    enum gfs_err err = ns_truncate(fx->ns, inode, length, fx->now_ms, &fx->changes, &cut);
    if (err == GFS_ERR_BUSY) {
        uint32_t index = (uint32_t)(length / GFS_CHUNK_SIZE_MIN_BYTES);
        assert_true(ns_chunk_at(fx->ns, inode, index)->references > 1);
        unshare(world, inode, index);
        err = ns_truncate(fx->ns, inode, length, fx->now_ms, &fx->changes, &cut);
    }
    assert_int_equal(err, GFS_OK);
    node->length_bytes = length;
    for (uint32_t i = 0; i < TOKENS; i++) {
        if ((uint64_t)i * GFS_CHUNK_SIZE_MIN_BYTES >= length) {
            node->tokens[i] = 0;
        }
    }
    if (cut != NULL) {
        assert_true(cut->truncating);
        assert_int_equal(cut->references, 1);
        assert_true(cut->length_bytes <= length % GFS_CHUNK_SIZE_MIN_BYTES);
    }
}

static void do_goal(struct world *world, const char *path)
{
    struct fixture *fx = &world->fx;
    struct model *model = &world->model;
    struct inode *inode;
    if (model_find(model, path) == NULL) {
        return;
    }
    assert_int_equal(fixture_lookup(fx, path, &inode), GFS_OK);
    struct ns_setattr_args args = {.set_goal = true,
                                   .goal = 1 + (uint32_t)draw(world, GFS_GOAL_MAX),
                                   .recursive = draw(world, 2)};
    uint64_t want = 0;
    for (size_t i = 0; i < model->count; i++) {
        struct model_node *node = &model->nodes[i];
        if (strcmp(node->path, path) == 0 || (args.recursive && model_below(node, path))) {
            want += node->goal != args.goal;
            node->goal = args.goal;
        }
    }
    uint64_t changed;
    assert_int_equal(ns_setattr(fx->ns, inode, &args, fx->now_ms, &fx->changes, &changed), GFS_OK);
    assert_int_equal(changed, want);
}

static bool snapshot_fits(const struct model *model, const char *from, const char *to)
{
    size_t count = model->count;
    for (size_t i = 0; i < model->count; i++) {
        const struct model_node *node = &model->nodes[i];
        if (strcmp(node->path, from) == 0 || model_below(node, from)) {
            count++;
            if (strlen(node->path) + strlen(to) >= PATH_BYTES / 3) {
                return false;
            }
        }
    }
    return count < TREE_MAX;
}

static void do_snapshot(struct world *world, const char *from)
{
    struct model *model = &world->model;
    struct fixture *fx = &world->fx;
    char to[PATH_BYTES];
    draw_path(world, to);
    if (!snapshot_fits(model, from, to)) {
        return;
    }
    enum gfs_err want = model_lookup(model, from);
    want = want == GFS_OK ? model_resolve(model, to) : want;
    size_t len = strlen(from);
    if (want == GFS_OK && strncmp(to, from, len) == 0 && to[len] == '/') {
        want = GFS_ERR_LOOP;
    }
    if (want == GFS_OK && model_find(model, to) != NULL) {
        want = GFS_ERR_EXISTS;
    }
    size_t before = fx->changes.len_bytes;
    assert_int_equal(ns_snapshot(fx->ns, from, len, to, strlen(to), fx->now_ms, &fx->changes),
                     want);
    if (want != GFS_OK) {
        assert_int_equal(fx->changes.len_bytes, before);
        return;
    }
    world->snapshots++;
    size_t count = model->count;
    for (size_t i = 0; i < count; i++) {
        const struct model_node *node = &model->nodes[i];
        if (strcmp(node->path, from) == 0 || model_below(node, from)) {
            struct model_node copy = *node;
            snprintf(copy.path, sizeof(copy.path), "%s%s", to, node->path + len);
            assert_true(model->count < MODEL_MAX);
            model->nodes[model->count++] = copy;
        }
    }
}

/* ---- comparing ----------------------------------------------------------------------------- */
struct text {
    char *data;
    size_t len;
    size_t nodes;
};

static void text_add(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void text_add(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text->len += (size_t)vsnprintf(text->data + text->len, TEXT_BYTES - text->len, format, args);
    va_end(args);
    assert_true(text->len < TEXT_BYTES);
}

static void dump_inode(struct world *world, const struct inode *inode, struct text *text)
{
    struct inode_attr attr;
    ns_attr(world->fx.ns, inode, &attr);
    text_add(text,
             " inode=%" PRIu64 " type=%d anonymous=%d length=%" PRIu64
             " goal=%u size=%u mtime=%" PRId64 " ctime=%" PRId64 " mode=%o chunks=%u entries=%u\n",
             attr.inode, attr.type, attr.anonymous, attr.length_bytes, attr.goal,
             attr.chunk_size_bytes, attr.mtime_ms, attr.ctime_ms, attr.mode, attr.chunk_count,
             attr.entry_count);
    for (uint32_t i = 0; i < attr.chunk_count; i++) {
        const struct chunk *chunk = ns_chunk_at(world->fx.ns, inode, i);
        if (chunk != NULL) {
            text_add(text,
                     "  chunk %u %" PRIu64 " v%u length=%u truncating=%u cuts=%u goal=%u refs=%u"
                     " family=%" PRIu64 "\n",
                     i, chunk->handle, chunk->version, chunk->length_bytes, chunk->truncating,
                     chunk->cuts, chunk->goal, chunk->references,
                     ns_chunk_family(world->fx.ns, chunk));
            const struct inode *owner = ns_chunk_owner(world->fx.ns, chunk);
            assert_true(owner == NULL || ns_chunk_at(world->fx.ns, owner, i) == chunk);
            assert_true(chunk->references > 1 || owner == NULL || owner == inode);
            assert_int_equal(chunk_size_bytes(chunk), attr.chunk_size_bytes);
            assert_true(chunk->goal >= attr.goal || chunk->references == 1);
        }
    }
}

static void dump_tree(struct world *world, struct inode *dir, const char *path, struct text *text)
{
    struct ns_entry entries[3]; /* small pages, so that resuming is tried */
    size_t count;
    bool more = true;
    struct path_name after = {0};
    char name[256];
    text->nodes++;
    text_add(text, "%s", path);
    dump_inode(world, dir, text);
    struct inode_attr attr;
    ns_attr(world->fx.ns, dir, &attr);
    while (attr.type == INODE_DIR && more) {
        assert_int_equal(ns_list(world->fx.ns, dir, after.data, after.len_bytes, entries, 3, &count,
                                 &more),
                         GFS_OK);
        for (size_t i = 0; i < count; i++) {
            assert_true(path_name_compare(&after, &entries[i].name) < 0);
            char child[PATH_BYTES];
            snprintf(child, sizeof(child), "%s/%.*s", path, (int)entries[i].name.len_bytes,
                     (const char *)entries[i].name.data);
            memcpy(name, entries[i].name.data, entries[i].name.len_bytes);
            after = (struct path_name){(const uint8_t *)name, entries[i].name.len_bytes};
            dump_tree(world, entries[i].inode, child, text);
        }
    }
}

static struct text dump(struct world *world)
{
    struct text text = {.data = malloc(TEXT_BYTES)};
    struct inode *root;
    assert_int_equal(fixture_lookup(&world->fx, "/", &root), GFS_OK);
    dump_tree(world, root, "", &text);
    struct ns_counters counters;
    ns_counters(world->fx.ns, &counters);
    text_add(&text,
             "files=%" PRIu64 " dirs=%" PRIu64 " chunks=%" PRIu64 " length=%" PRIu64
             " anonymous=%" PRIu64 " trash=%" PRIu64 "\n",
             counters.files, counters.directories, counters.chunks, counters.length_bytes,
             counters.anonymous, counters.trash);
    return text;
}

static void check_model(struct world *world, const struct text *text)
{
    struct model *model = &world->model;
    assert_int_equal(text->nodes, model->count);
    for (size_t i = 0; i < model->count; i++) {
        const struct model_node *node = &model->nodes[i];
        struct inode *inode;
        struct inode_attr attr;
        const char *path = node->path[0] != '\0' ? node->path : "/";
        assert_int_equal(fixture_lookup(&world->fx, path, &inode), GFS_OK);
        ns_attr(world->fx.ns, inode, &attr);
        assert_int_equal(attr.type, node->is_dir ? INODE_DIR : INODE_FILE);
        assert_int_equal(attr.goal, node->goal);
        assert_int_equal(attr.length_bytes, node->length_bytes);
        for (uint32_t k = 0; k < TOKENS; k++) {
            const struct chunk *chunk = ns_chunk_at(world->fx.ns, inode, k);
            assert_int_equal(chunk != NULL ? *content(world, chunk) : 0, node->tokens[k]);
        }
    }
}

static void reload(struct world *world)
{
    struct fixture *fx = &world->fx;
    fixture_save(fx);
    struct text before = dump(world);
    check_model(world, &before);
    fixture_drop_state(fx);
    fixture_new_state(fx);
    char detail[IMAGE_DETAIL_BYTES] = "";
    enum gfs_err err = image_load(fx->kv, fx->ns, fx->window, fx->now_ms, detail, NULL);
    if (err != GFS_OK) {
        fail_msg("load: %s: %s", gfs_err_name(err), detail);
    }
    struct inode *inode;
    assert_int_equal(fixture_create(fx, "/early", false, false, &inode), GFS_ERR_STARTING);
    struct text after = dump(world);
    assert_string_equal(before.data, after.data);
    free(before.data);
    free(after.data);
    assert_int_equal(ns_start(fx->ns, &fx->changes), GFS_OK);
    fixture_save(fx);
}

static void reap_all(struct world *world)
{
    struct fixture *fx = &world->fx;
    while (ns_reap(fx->ns, 7, fx->now_ms, &fx->changes)) {
    }
    struct ns_counters counters;
    ns_counters(fx->ns, &counters);
    assert_int_equal(counters.trash, 0);
    assert_int_equal(counters.files + counters.directories,
                     world->model.count + counters.anonymous);
    struct chunk *chunk;
    while ((chunk = chunkmap_released_first(ns_chunkmap(fx->ns))) != NULL) {
        chunkmap_drop(ns_chunkmap(fx->ns), chunk);
    }
}

static void step(struct world *world)
{
    static void (*const ops[])(struct world * world, const char *path) = {
        do_create, do_create, do_publish,  do_mkdir, do_mkdir, do_remove, do_rename,   do_rename,
        do_write,  do_write,  do_truncate, do_goal,  do_write, do_write,  do_snapshot, do_snapshot,
    };
    char path[PATH_BYTES];
    draw_path(world, path);
    void (*op)(struct world *, const char *) = ops[draw(world, sizeof(ops) / sizeof(ops[0]))];
    if (draw(world, 2) == 0 && op != do_remove) { /* something that is there */
        const struct model_node *node = &world->model.nodes[draw(world, world->model.count)];
        if (node->path[0] != '\0') {
            strcpy(path, node->path);
        }
    }
    size_t before = world->fx.changes.len_bytes;
    op(world, path);
    assert_true(world->fx.changes.len_bytes >= before);
    world->fx.now_ms += (int64_t)draw(world, 3);
    if (draw(world, 10) == 0) {
        ns_reap(world->fx.ns, (uint32_t)draw(world, 5), world->fx.now_ms, &world->fx.changes);
    }
}

static void test_random_operations_agree_with_the_model_and_the_load(void **state)
{
    const char *text = getenv("SEED");
    uint64_t first = text != NULL ? strtoull(text, NULL, 10) : 1;
    uint64_t last = text != NULL ? first : 12;
    struct world *world = calloc(1, sizeof(*world));
    uint64_t snapshots = 0;
    uint64_t unshared = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        printf("SEED=%" PRIu64 "\n", seed);
        *world = (struct world){.random = seed};
        fixture_open(&world->fx);
        model_add(&world->model, "", true);
        for (int i = 0; i < 6000; i++) {
            step(world);
            if (draw(world, 250) == 0) {
                reload(world);
            }
            if (draw(world, 500) == 0) {
                reap_all(world);
            }
        }
        reap_all(world);
        reload(world);
        fixture_close(&world->fx);
        snapshots += world->snapshots;
        unshared += world->unshared;
    }
    free(world);
    printf("%" PRIu64 " snapshots, %" PRIu64 " chunks unshared\n", snapshots, unshared);
    assert_true(text != NULL || (snapshots > 500 && unshared > 300));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_agree_with_the_model_and_the_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
