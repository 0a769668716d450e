// Limits of control groups, and what a process may use of the machine.
#include "runtime/control_group.h"

#include "expect.h"
#include "runtime/machine.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

const char* const kVersion2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup rw,nsdelegate\n";
const char* const kVersion1 =
    "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:28 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory\n";

struct Tree {
  TemporaryDirectory directory;

  Tree(const std::string& mounts, const std::string& groups) {
    add("proc/self/mountinfo", mounts);
    add("proc/self/cgroup", groups);
  }
  Tree& add(const std::string& name, const std::string& contents) {
    write_text(directory.path() / name, contents);
    return *this;
  }
  double quota() const { return cpu_quota(directory.path()).value_or(-1); }
};

void test_version_2() {
  Tree tree(kVersion2, "0::/a/b\n");
  EXPECT(tree.quota() == -1, "no limit");
  tree.add("sys/fs/cgroup/a/b/cpu.max", "max 100000\n").add("sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  EXPECT(tree.quota() == 2.5, "%f", tree.quota());
}

void test_version_1() {
  Tree tree(kVersion1, "12:memory:/a\n4:cpu,cpuacct:/a\n1:name=systemd:/a\n");
  tree.add("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
  tree.add("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  tree.add("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
  tree.add("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT(tree.quota() == 2.5, "%f", tree.quota());
}

void test_a_container_sees_its_group_at_the_mount_point() {
  Tree tree(kVersion2, "0::/../../host/group\n");
  tree.add("sys/fs/cgroup/cpu.max", "300000 100000\n");
  EXPECT(tree.quota() == 3, "%f", tree.quota());
}

void test_a_mount_point_with_a_space() {
  Tree tree("30 23 0:26 / /sys/fs/my\\040groups rw - cgroup2 cgroup rw\n", "0::/a\n");
  tree.add("sys/fs/my groups/a/cpu.max", "100000 100000\n");
  EXPECT(tree.quota() == 1, "%f", tree.quota());
}

void test_without_proc_the_usual_places_are_read() {
  Tree tree("", "");
  tree.add("sys/fs/cgroup/cpu.max", "200000 100000");
  EXPECT(tree.quota() == 2, "%f", tree.quota());
  Tree older("", "");
  older.add("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000").add("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  EXPECT(older.quota() == 2, "%f", older.quota());
}

void test_a_malformed_file_limits_nothing() {
  for (const std::string& rubbish :
       {std::string(), std::string("rubbish"), std::string("a b"), std::string("100000"), std::string("100000 0"),
        std::string("-1 100000"), std::string("1_000 1"), std::string(5000, '9') + " 1", std::string("\xff\xfe\0 1", 5),
        std::string("1e5 1e5")}) {
    Tree tree(kVersion2, "0::/a\n");
    tree.add("sys/fs/cgroup/a/cpu.max", rubbish).add("sys/fs/cgroup/cpu.max", "700000 100000\n");
    EXPECT(tree.quota() == 7, "%s: %f", rubbish.substr(0, 10).c_str(), tree.quota());
  }
  for (const char* rubbish : {"::", " - ", "0", "0:/", "x::/a", "30 23 - cgroup2", "0::relative"}) {
    Tree tree(rubbish, rubbish);
    EXPECT(tree.quota() == -1, "%s", rubbish);
  }
}

void test_usable_cores() {
  EXPECT(usable_cores() >= 1, "%d", usable_cores());
  Tree tree(kVersion2, "0::/\n");
  tree.add("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT(usable_cores(tree.directory.path()) == 1, "%d", usable_cores(tree.directory.path()));
}

}  // namespace

int main() {
  test_version_2();
  test_version_1();
  test_a_container_sees_its_group_at_the_mount_point();
  test_a_mount_point_with_a_space();
  test_without_proc_the_usual_places_are_read();
  test_a_malformed_file_limits_nothing();
  test_usable_cores();
  return failures != 0;
}
