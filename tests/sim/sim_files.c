/*
 * sim_files: the few files and directories that the store keeps around its databases. The linker
 * sends our objects' system calls here. A database is a directory with one file in it. Descriptors
 * are numbers of our own, above those of the real process; they leak with a crash.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "sim_disk.h"

#define FILES_FD_FIRST    1000000
#define FILES_FDS_MAX     4096
#define FILES_DIR_ENTRIES 256
#define FILES_SYNC_MAX_US 2000u
#define FILES_BLOCK_BYTES 4096u

/* An open directory: its names as they were. */
struct files_dir {
    struct sim_disk *disk;
    char path[SIM_PATH_MAX];
    size_t count, at;
    struct dirent entries[FILES_DIR_ENTRIES];
    off_t sizes[FILES_DIR_ENTRIES];
};

static struct {
    struct sim_file *open[FILES_FDS_MAX]; /* by descriptor; NULL: of a database's directory */
    int next;
} files;

static struct sim_file *find(struct sim_disk *disk, const char *path)
{
    for (struct sim_file *file = disk->files; file; file = file->next)
        if (strcmp(file->path, path) == 0)
            return file;
    return NULL;
}

static struct sim_file *add(struct sim_disk *disk, const char *path, bool is_dir)
{
    struct sim_file **last = &disk->files;
    struct sim_file *file = calloc(1, sizeof(*file));

    assert(file && strlen(path) < SIM_PATH_MAX);
    snprintf(file->path, sizeof(file->path), "%s", path);
    file->is_dir = is_dir;
    while (*last)
        last = &(*last)->next;
    *last = file;
    return file;
}

static int fail(int number)
{
    errno = number;
    return -1;
}

/* The name of what lies directly in a directory; NULL: it does not. */
static const char *name_in(const char *dir, const char *path)
{
    size_t len = strlen(dir);

    if (strncmp(path, dir, len) != 0 || path[len] != '/' || strchr(path + len + 1, '/'))
        return NULL;
    return path + len + 1;
}

/* ---- files ----------------------------------------------------------------------------------- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    struct sim_disk *disk = sim_disk_of_path(path);
    struct sim_file *file = find(disk, path);

    if (!file && !sim_db_find(disk, path)) {
        if (!(flags & O_CREAT))
            return fail(ENOENT);
        if (sim_disk_is_full(disk, 1))
            return fail(ENOSPC);
        file = add(disk, path, false);
    } else if (flags & O_EXCL) {
        return fail(EEXIST);
    }
    assert(files.next < FILES_FDS_MAX);
    files.open[files.next] = file;
    return FILES_FD_FIRST + files.next++;
}

static struct sim_file *of_descriptor(int fd)
{
    assert(fd >= FILES_FD_FIRST && fd < FILES_FD_FIRST + files.next);
    return files.open[fd - FILES_FD_FIRST];
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
    (void)of_descriptor(fd);
    return 0;
}

ssize_t __wrap_read(int fd, void *ret_bytes, size_t count);
ssize_t __wrap_read(int fd, void *ret_bytes, size_t count)
{
    const struct sim_file *file = of_descriptor(fd);

    if (count > file->len_bytes)
        count = file->len_bytes;
    memcpy(ret_bytes, file->text, count);
    return (ssize_t)count;
}

ssize_t __wrap_write(int fd, const void *bytes, size_t count);
ssize_t __wrap_write(int fd, const void *bytes, size_t count)
{
    struct sim_file *file = of_descriptor(fd);

    assert(count < sizeof(file->text));
    memcpy(file->text, bytes, count);
    file->len_bytes = count;
    return (ssize_t)count;
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    (void)of_descriptor(fd);
    sim_disk_wait(sim->current->disk, 1, FILES_SYNC_MAX_US);
    return 0;
}

int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path)
{
    struct sim_disk *disk = sim_disk_of_path(path);

    for (struct sim_file **at = &disk->files; *at; at = &(*at)->next) {
        if (strcmp((*at)->path, path) != 0)
            continue;
        *at = (*at)->next; /* it may be open still */
        return 0;
    }
    return fail(ENOENT);
}

int __wrap_access(const char *path, int mode);
int __wrap_access(const char *path, int mode)
{
    return find(sim_disk_of_path(path), path) ? 0 : fail(ENOENT);
}

/* Of databases: nothing else is renamed here. */
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    struct sim_db *db = sim_db_find(sim_disk_of_path(from), from);

    if (!db)
        return fail(ENOENT);
    assert(strlen(to) < SIM_PATH_MAX);
    snprintf(db->path, sizeof(db->path), "%s", to);
    return 0;
}

/* ---- directories ----------------------------------------------------------------------------- */

int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode)
{
    struct sim_disk *disk = sim_disk_of_path(path);

    if (find(disk, path))
        return fail(EEXIST);
    if (sim_disk_is_full(disk, 1))
        return fail(ENOSPC);
    add(disk, path, true);
    return 0;
}

static void dir_add(struct files_dir *dir, const char *name, off_t size_bytes)
{
    assert(dir->count < FILES_DIR_ENTRIES);
    snprintf(dir->entries[dir->count].d_name, sizeof(dir->entries[0].d_name), "%s", name);
    dir->sizes[dir->count++] = size_bytes;
}

DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path)
{
    struct sim_disk *disk = sim_disk_of_path(path);
    const struct sim_db *own = sim_db_find(disk, path);
    struct files_dir *dir;

    if (!own && !find(disk, path)) {
        errno = ENOENT;
        return NULL;
    }
    dir = calloc(1, sizeof(*dir));
    assert(dir);
    dir->disk = disk;
    snprintf(dir->path, sizeof(dir->path), "%s", path);
    if (own)
        dir_add(dir, "000003.log", sim_db_holds_data(own));
    for (const struct sim_file *file = disk->files; file; file = file->next)
        if (name_in(path, file->path))
            dir_add(dir, name_in(path, file->path), (off_t)file->len_bytes);
    for (const struct sim_db *db = disk->dbs; db; db = db->next)
        if (name_in(path, db->path))
            dir_add(dir, name_in(path, db->path), 0);
    return (DIR *)dir;
}

struct dirent *__wrap_readdir(DIR *stream);
struct dirent *__wrap_readdir(DIR *stream)
{
    struct files_dir *dir = (struct files_dir *)stream;

    return dir->at < dir->count ? &dir->entries[dir->at++] : NULL;
}

int __wrap_closedir(DIR *stream);
int __wrap_closedir(DIR *stream)
{
    free(stream);
    return 0;
}

/* dirfd and fstatat: of the entry that was read last, which is all that is asked. */
static const struct files_dir *last_dir;

int __wrap_dirfd(DIR *stream);
int __wrap_dirfd(DIR *stream)
{
    last_dir = (struct files_dir *)stream;
    return FILES_FD_FIRST - 1;
}

int __wrap_fstatat(int fd, const char *name, struct stat *ret_stat, int flags);
int __wrap_fstatat(int fd, const char *name, struct stat *ret_stat, int flags)
{
    assert(fd == FILES_FD_FIRST - 1 && last_dir && last_dir->at > 0);
    assert(strcmp(last_dir->entries[last_dir->at - 1].d_name, name) == 0);
    memset(ret_stat, 0, sizeof(*ret_stat));
    ret_stat->st_size = last_dir->sizes[last_dir->at - 1];
    return 0;
}

int __wrap_statvfs(const char *path, struct statvfs *ret_stat);
int __wrap_statvfs(const char *path, struct statvfs *ret_stat)
{
    const struct sim_disk *disk = sim_disk_of_path(path);

    memset(ret_stat, 0, sizeof(*ret_stat));
    ret_stat->f_frsize = FILES_BLOCK_BYTES;
    ret_stat->f_blocks = disk->capacity_bytes / FILES_BLOCK_BYTES;
    ret_stat->f_bavail = sim_disk_free_bytes(disk) / FILES_BLOCK_BYTES;
    return 0;
}

int __wrap_setpriority(__priority_which_t which, id_t who, int priority);
int __wrap_setpriority(__priority_which_t which, id_t who, int priority)
{
    return 0;
}
