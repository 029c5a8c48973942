#!/usr/bin/env bash
# A SLURM of two nodes on 127.0.0.1, for tests: no systemd, no accounting, nothing outside DIR.
#   mini_slurm.sh start DIR CONTROLLER_PORT NODE_PORT NODE_PORT
#   mini_slurm.sh stop DIR
# Needs root and the Debian packages slurm-wlm and munge. After `start`, DIR/slurm.conf is what
# SLURM_CONF must name, and DIR/bin must come first on PATH. DIR must be short: a Unix socket's
# path has at most 107 characters.
set -euo pipefail

usage() { sed -n '3,4s/^# *//p' "$0" >&2; exit 2; }

action=${1:-}
[ "$#" -ge 2 ] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
export SLURM_CONF=$dir/slurm.conf
nodes=(node0 node1)

wait_until() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until timeout 5 "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "gave up waiting for: $*" >&2; return 1; }
    sleep 0.1
  done
}

write_configuration() { # CONTROLLER_PORT NODE_PORT...
  local host controller_port=$1
  host=$(hostname -s)
  shift
  mkdir -p "$dir"/{bin,run,log,state,spool}
  chmod 755 "$dir" "$dir"/*/
  # CPUs and memory are what the profile may ask for, not what this machine has: config_overrides
  # makes SLURM believe it, and without cgroups nothing is enforced.
  {
    cat <<CONF
ClusterName=mini
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/%n.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
# squeue is the only record of a job's end: keep it for longer than the profile's polling.
MinJobAge=300
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    for node in "${nodes[@]}"; do
      echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$1 CPUs=4 RealMemory=20000 State=UNKNOWN"
      shift
    done
  } >"$SLURM_CONF"
  # Snakemake's job step starts srun without SLURM_CONF; sbatch carries PATH to the nodes.
  cat >"$dir/bin/srun" <<SRUN
#!/bin/sh
SLURM_CONF=$SLURM_CONF exec $(command -v srun) "\$@"
SRUN
  chmod 755 "$dir/bin/srun"
}

all_idle() { [ "$(sinfo --noheader --Node --format=%T | grep -c '^idle$')" -eq "${#nodes[@]}" ]; }

start() {
  write_configuration "$@"
  (umask 077 && head -c 1024 /dev/urandom >"$dir/run/munge.key")
  # --force: it distrusts a socket below a folder that others may write to, such as /tmp
  munged --force --num-threads=2 --socket="$dir/run/munge.socket" \
    --key-file="$dir/run/munge.key" --seed-file="$dir/run/munge.seed" \
    --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged.log"
  slurmctld
  for node in "${nodes[@]}"; do slurmd -N "$node"; done
  export -f all_idle
  wait_until 20 bash -c "nodes=(${nodes[*]}); all_idle"
}

end_daemon() { # NAME PIDFILE: ask, then kill, and never a process that has taken over the number
  local pid
  [ -s "$2" ] || return 0
  pid=$(<"$2")
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || return 0
  kill "$pid" || return 0
  for _ in $(seq 100); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || return 0
    sleep 0.1
  done
  kill -9 "$pid"
}

stop() {
  if [ -s "$dir/run/slurmctld.pid" ]; then
    timeout 10 scancel --user="$(id -un)" || true
    wait_until 15 bash -c '[ -z "$(squeue --noheader --states=RUNNING,PENDING,COMPLETING)" ]' || true
  fi
  for node in "${nodes[@]}"; do end_daemon slurmd "$dir/run/$node.pid"; done
  end_daemon slurmctld "$dir/run/slurmctld.pid"
  end_daemon munged "$dir/run/munged.pid"
}

case $action in
  start) [ "$#" -eq $((3 + ${#nodes[@]})) ] || usage; start "${@:3}" ;;
  stop) stop ;;
  *) usage ;;
esac
