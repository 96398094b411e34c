/* daemon: the data directory's lock and stamp; uuids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon.h"

static char base[64], data[128], detail[256];

static int make_base(void **state)
{
    strcpy(base, "/tmp/test_daemon-XXXXXX");
    if (!mkdtemp(base))
        return -1;
    snprintf(data, sizeof(data), "%s/data", base);
    return 0;
}

static int remove_base(void **state)
{
    char command[256];

    snprintf(command, sizeof(command), "rm -rf '%s'", base);
    return system(command);
}

static void put_file(const char *name, const char *text)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", data, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void ids_survive_a_restart(void **state)
{
    struct daemon_dir dir, again;

    assert_int_equal(daemon_dir_open(&dir, data, "master", detail), GFS_OK);
    assert_false(dir.has_stamp);
    assert_false(uuid_is_zero(dir.server_id));
    assert_true(uuid_is_zero(dir.cluster_id));
    uuid_make(dir.cluster_id);
    assert_int_equal(daemon_dir_stamp(&dir, "master"), GFS_OK);
    daemon_dir_release(&dir);
    assert_int_equal(daemon_dir_open(&again, data, "master", detail), GFS_OK);
    assert_true(again.has_stamp);
    assert_memory_equal(again.cluster_id, dir.cluster_id, GFS_UUID_BYTES);
    assert_memory_equal(again.server_id, dir.server_id, GFS_UUID_BYTES);
    daemon_dir_release(&again);
}

static void a_second_process_is_kept_out(void **state)
{
    struct daemon_dir dir, second;

    assert_int_equal(daemon_dir_open(&dir, data, "master", detail), GFS_OK);
    assert_int_equal(daemon_dir_open(&second, data, "master", detail), GFS_ERR_LOCKED);
    assert_non_null(strstr(detail, "in use by another process"));
    assert_int_equal(second.lock_fd, -1);
    daemon_dir_release(&dir);
    assert_int_equal(daemon_dir_open(&second, data, "master", detail), GFS_OK);
    daemon_dir_release(&second);
}

static void other_roles_and_formats_are_refused(void **state)
{
    struct daemon_dir dir;

    assert_int_equal(daemon_dir_open(&dir, data, "chunkserver", detail), GFS_OK);
    assert_int_equal(daemon_dir_stamp(&dir, "chunkserver"), GFS_OK);
    daemon_dir_release(&dir);
    assert_int_equal(daemon_dir_open(&dir, data, "master", detail), GFS_ERR_BAD_FORMAT);
    assert_non_null(strstr(detail, "another kind of server"));
    put_file("STAMP", "format=999\nrole=master\n");
    assert_int_equal(daemon_dir_open(&dir, data, "master", detail), GFS_ERR_BAD_FORMAT);
    assert_non_null(strstr(detail, "format"));
    put_file("STAMP", "format=1\nrole=master\ncluster=xyz\nserver=\n");
    assert_int_equal(daemon_dir_open(&dir, data, "master", detail), GFS_ERR_BAD_FORMAT);
    put_file("STAMP", "");
    assert_int_equal(daemon_dir_open(&dir, data, "master", detail), GFS_ERR_BAD_FORMAT);
}

static void foreign_directories_are_left_alone(void **state)
{
    struct daemon_dir dir;
    char lock[256];

    assert_int_equal(mkdir(data, 0700), 0);
    put_file("thesis.tex", "years of work");
    assert_int_equal(daemon_dir_open(&dir, data, "master", detail), GFS_ERR_BAD_FORMAT);
    snprintf(lock, sizeof(lock), "%s/LOCK", data);
    assert_int_equal(access(lock, F_OK), -1);
}

static void a_crash_while_stamping_leaves_a_fresh_directory(void **state)
{
    struct daemon_dir dir;

    assert_int_equal(mkdir(data, 0700), 0);
    put_file("LOCK", "");
    put_file("STAMP.tmp", "form");
    assert_int_equal(daemon_dir_open(&dir, data, "master", detail), GFS_OK);
    assert_false(dir.has_stamp);
    daemon_dir_release(&dir);
}

static void unusable_paths_say_why(void **state)
{
    struct daemon_dir dir;
    char path[512];

    snprintf(path, sizeof(path), "%s/no/such/parent", base);
    assert_int_equal(daemon_dir_open(&dir, path, "master", detail), GFS_ERR_LOCAL);
    assert_non_null(strstr(detail, "No such file"));
    assert_int_equal(mkdir(data, 0700), 0);
    put_file("file", "");
    snprintf(path, sizeof(path), "%s/file", data);
    assert_int_equal(daemon_dir_open(&dir, path, "master", detail), GFS_ERR_LOCAL);
    assert_non_null(strstr(detail, "Not a directory"));
    assert_int_equal(daemon_dir_open(&dir, "", "master", detail), GFS_ERR_INVAL);
}

static void uuids_go_to_text_and_back(void **state)
{
    static const char *const bad[] = {"",
                                      "0",
                                      "123e4567-e89b-42d3-a456-42661417400",
                                      "123e4567-e89b-42d3-a456-4266141740000",
                                      "123e4567ee89b-42d3-a456-426614174000",
                                      "123e4567-e89b-42d3-a456-42661417400g"};
    uint8_t uuid[GFS_UUID_BYTES], back[GFS_UUID_BYTES], other[GFS_UUID_BYTES];
    char text[37];

    uuid_make(uuid);
    uuid_make(other);
    assert_memory_not_equal(uuid, other, GFS_UUID_BYTES);
    uuid_format(uuid, text);
    assert_int_equal(strlen(text), 36);
    assert_int_equal(text[14], '4');
    assert_true(uuid_parse(text, back));
    assert_memory_equal(uuid, back, GFS_UUID_BYTES);
    assert_true(uuid_parse("123E4567-e89b-42d3-a456-426614174000", back));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(uuid_parse(bad[i], back));
}

#define DIR_TEST(fn) cmocka_unit_test_setup_teardown(fn, make_base, remove_base)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIR_TEST(ids_survive_a_restart),
        DIR_TEST(a_second_process_is_kept_out),
        DIR_TEST(other_roles_and_formats_are_refused),
        DIR_TEST(foreign_directories_are_left_alone),
        DIR_TEST(a_crash_while_stamping_leaves_a_fresh_directory),
        DIR_TEST(unusable_paths_say_why),
        cmocka_unit_test(uuids_go_to_text_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
