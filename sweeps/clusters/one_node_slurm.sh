#!/usr/bin/env bash
# Starts a SLURM of this one machine, without root, systemd or cgroups: for trying sweeps on it, and for tests. It has a munge
# and ports of its own, and shares nothing with a SLURM that the machine may have.
#   apt-get install slurm-wlm munge
#   source sweeps/clusters/one_node_slurm.sh start DIR     # sets SLURM_CONF; DIR is short: sockets lie in it
#   sweeps/clusters/one_node_slurm.sh stop DIR             # ends its jobs and its three daemons
set -euo pipefail
command=$1
dir=$(realpath -m "$2")
host=$(hostname -s)
user=$(id -un)
export SLURM_CONF=$dir/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

free_port() {
    local port
    while port=$(shuf -n 1 -i 20000-30000) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

stop() {
    timeout 5 scancel --full --signal=KILL --user="$user" 2>/dev/null || true
    timeout 5 scancel --user="$user" 2>/dev/null || true
    for _ in $(seq 20); do
        [ -z "$(timeout 5 squeue --noheader --states=PENDING,RUNNING 2>/dev/null)" ] && break
        sleep 0.1
    done
    for name in slurmd slurmctld munged; do
        # Nothing of its state is kept; a daemon that is asked takes seconds.
        [ -f "$dir/$name.pid" ] && kill -KILL "$(cat "$dir/$name.pid")" 2>/dev/null || true
    done
}

if [ "$command" = stop ]; then
    stop
    exit 0
fi

mkdir -p "$dir"/{state,spool,munge}
chmod 700 "$dir/munge"
dd if=/dev/urandom of="$dir/munge/key" bs=1024 count=1 status=none
chmod 400 "$dir/munge/key"
munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" 2>/dev/null
echo "CgroupPlugin=disabled" >"$dir/cgroup.conf"
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0
ReturnToService=2
MpiDefault=none
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld
slurmd
for _ in $(seq 50); do
    if sinfo -h -o %T 2>/dev/null | grep -q idle; then break; fi
    sleep 0.2
done
sinfo
set +eu
