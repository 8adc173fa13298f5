/* What only a C program can show about the module: one check per command, "ok" and exit 0 when it held. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <nss.h>
#include <pthread.h>
#include <pwd.h>
#include <shadow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #what, errno); \
            _exit(1); \
        } \
    } while (0)

typedef enum nss_status (*by_name)(const char *, void *, char *, size_t, int *);
typedef enum nss_status (*by_id)(unsigned, void *, char *, size_t, int *);
typedef enum nss_status (*groups_of)(const char *, gid_t, long *, long *, gid_t **, long, int *);

static struct {
    void *handle;
    by_name pwnam, grnam, spnam;
    by_id pwuid, grgid;
    groups_of initgroups;
} module;

static int fail_realloc;
extern void *__libc_realloc(void *, size_t);

/* Taken by the module in place of glibc's. */
void *realloc(void *memory, size_t size) {
    if (fail_realloc) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(memory, size);
}

static void load(void) {
    module.handle = dlopen("libnss_dirless.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!module.handle) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(1);
    }
    CHECK(module.pwnam = (by_name)dlsym(module.handle, "_nss_dirless_getpwnam_r"));
    CHECK(module.grnam = (by_name)dlsym(module.handle, "_nss_dirless_getgrnam_r"));
    CHECK(module.spnam = (by_name)dlsym(module.handle, "_nss_dirless_getspnam_r"));
    CHECK(module.pwuid = (by_id)dlsym(module.handle, "_nss_dirless_getpwuid_r"));
    CHECK(module.grgid = (by_id)dlsym(module.handle, "_nss_dirless_getgrgid_r"));
    CHECK(module.initgroups = (groups_of)dlsym(module.handle, "_nss_dirless_initgroups_dyn"));
}

static void ask_everything(void) {
    struct passwd user;
    struct group group;
    struct spwd shadow;
    char buffer[4096];
    int error = 0;
    gid_t room[64] = {60001};
    gid_t *list = room;
    long start = 1, size = 64;
    CHECK(module.pwnam("alice", &user, buffer, sizeof buffer, &error) == NSS_STATUS_SUCCESS);
    CHECK(user.pw_uid == 60001 && !strcmp(user.pw_dir, "/home/x"));
    CHECK(module.pwuid(60002, &user, buffer, sizeof buffer, &error) == NSS_STATUS_SUCCESS);
    CHECK(!strcmp(user.pw_name, "bob"));
    CHECK(module.grnam("eng", &group, buffer, sizeof buffer, &error) == NSS_STATUS_SUCCESS);
    CHECK(!strcmp(group.gr_mem[0], "alice") && !strcmp(group.gr_mem[1], "bob") && !group.gr_mem[2]);
    CHECK(module.grgid(2000, &group, buffer, sizeof buffer, &error) == NSS_STATUS_SUCCESS);
    CHECK(module.spnam("alice", &shadow, buffer, sizeof buffer, &error) == NSS_STATUS_SUCCESS);
    CHECK(!strcmp(shadow.sp_pwdp, "!"));
    CHECK(module.initgroups("alice", 60001, &start, &size, &list, 0, &error) == NSS_STATUS_SUCCESS && start == 3);
    CHECK(module.pwnam("nobody-of-that-name", &user, buffer, sizeof buffer, &error) == NSS_STATUS_NOTFOUND);
    CHECK(module.pwuid(4711, &user, buffer, sizeof buffer, &error) == NSS_STATUS_NOTFOUND);
    CHECK(module.grnam("alice", &group, buffer, 0, &error) == NSS_STATUS_NOTFOUND);
    CHECK(module.pwnam("alice", &user, buffer, 3, &error) == NSS_STATUS_TRYAGAIN && error == ERANGE);
}

/* In strict seccomp the kernel kills at any system call but read, write and exit. */
static void without_system_calls(void) {
    load();
    ask_everything();
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    for (int round = 0; round < 10000; round++)
        ask_everything();
    CHECK(write(1, "ok\n", 3) == 3);
    syscall(SYS_exit, 0);
}

static int mapped(const char *what) {
    char line[1024];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        found |= strstr(line, what) != NULL;
    fclose(maps);
    return found;
}

static void *ask_from_a_thread(void *unused) {
    ask_everything();
    return unused;
}

/* Unloading leaves nothing behind: no mapping, no fork handler, no thread-local destructor. */
static void unloaded(void) {
    for (int round = 0; round < 50; round++) {
        pthread_t thread;
        load();
        ask_everything();
        CHECK(pthread_create(&thread, NULL, ask_from_a_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
        CHECK(mapped("libnss_dirless") && mapped("/table"));
        CHECK(dlclose(module.handle) == 0);
        CHECK(!mapped("libnss_dirless") && !mapped("/table"));
        pid_t child = fork();
        if (child == 0)
            _exit(7);
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 7 << 8);
    }
}

/* A program that closes every descriptor and uses the numbers again. */
static void descriptors_closed(const char *scratch) {
    CHECK(getpwnam("alice") && getpwnam("alice")->pw_uid == 60001);
    for (int round = 0; round < 100; round++) {
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        int mine = open(scratch, O_RDWR | O_CREAT | O_TRUNC, 0600);
        CHECK(mine == 3);
        CHECK(getpwnam("alice") && getgrnam("eng") && !getpwnam("nobody-of-that-name"));
        for (int fd = 4; fd < 64; fd++)
            CHECK(fcntl(fd, F_GETFD) == -1);
        CHECK(lseek(mine, 0, SEEK_END) == 0);
        close(mine);
    }
}

static volatile int stop;

static void *look_up(void *unused) {
    char buffer[1024];
    while (!stop) {
        struct passwd user, *found;
        CHECK(getpwnam_r("bob", &user, buffer, sizeof buffer, &found) == 0 && found && user.pw_uid == 60002);
    }
    return unused;
}

/* Children of a program whose other threads are in the middle of lookups and enumerations. */
static void forked(void) {
    pthread_t threads[2];
    CHECK(getpwnam("alice"));
    for (int n = 0; n < 2; n++)
        CHECK(pthread_create(&threads[n], NULL, look_up, NULL) == 0);
    for (int round = 0; round < 300; round++) {
        setpwent();
        CHECK(getpwent());
        pid_t child = fork();
        if (child == 0) {
            alarm(10);
            int count = 0;
            CHECK(getpwnam("alice")->pw_uid == 60001);
            setpwent();
            while (getpwent())
                count++;
            endpwent();
            _exit(count > 3 ? 7 : 1);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 7 << 8);
    }
    stop = 1;
    for (int n = 0; n < 2; n++)
        CHECK(pthread_join(threads[n], NULL) == 0);
}

/* A gid list that cannot grow stays as it is. */
static void realloc_failed(void) {
    int error = 0;
    long start = 1, size = 1;
    load();
    gid_t *list = malloc(sizeof *list), *before = list;
    list[0] = 4711;
    fail_realloc = 1;
    CHECK(module.initgroups("alice", 60001, &start, &size, &list, 0, &error) == NSS_STATUS_TRYAGAIN);
    CHECK(error == ENOMEM && list == before && start == 1 && size == 1 && list[0] == 4711);
    fail_realloc = 0;
    CHECK(module.initgroups("alice", 60001, &start, &size, &list, 0, &error) == NSS_STATUS_SUCCESS && start == 3);
    free(list);
}

/* A root without the file: nothing is known there, and nobody waits or crashes. */
static void in_chroot(const char *root) {
    struct passwd user;
    char buffer[1024];
    int error = 0;
    load();
    CHECK(chroot(root) == 0 && chdir("/") == 0);
    for (int round = 0; round < 100; round++) {
        CHECK(module.pwnam("alice", &user, buffer, sizeof buffer, &error) == NSS_STATUS_UNAVAIL && error == ENOENT);
        CHECK(module.pwuid(60001, &user, buffer, sizeof buffer, &error) == NSS_STATUS_UNAVAIL);
    }
}

/* Threads that are cancelled in the middle of lookups, while tables change, leave no lock behind. */
static void cancelled(void) {
    for (int round = 0; round < 300; round++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, look_up, NULL) == 0);
        usleep(200);
        CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
        CHECK(getpwnam("alice")->pw_uid == 60001);
    }
}

/* Everything the module may be asked, through glibc, as one line for the test to compare. */
static void big_group(const char *name, long wanted) {
    struct group *group = getgrnam(name);
    long count = 0;
    CHECK(group);
    while (group->gr_mem[count])
        count++;
    CHECK(count == wanted);
}

static void asked_by_set_uid(const char *name) {
    struct passwd *user = getpwnam(name);
    printf("euid %d uid %d\n", geteuid(), user ? (int)user->pw_uid : -1);
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    if (!strcmp(command, "seccomp"))
        without_system_calls();
    else if (!strcmp(command, "dlclose"))
        unloaded();
    else if (!strcmp(command, "descriptors") && argc > 2)
        descriptors_closed(argv[2]);
    else if (!strcmp(command, "fork"))
        forked();
    else if (!strcmp(command, "realloc"))
        realloc_failed();
    else if (!strcmp(command, "chroot") && argc > 2)
        in_chroot(argv[2]);
    else if (!strcmp(command, "cancel"))
        cancelled();
    else if (!strcmp(command, "group") && argc > 3)
        big_group(argv[2], atol(argv[3]));
    else if (!strcmp(command, "set-uid") && argc > 2)
        asked_by_set_uid(argv[2]);
    else
        return 2;
    puts("ok");
    return 0;
}
