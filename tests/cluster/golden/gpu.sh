#!/usr/bin/env bash

#SBATCH -J twinlines
#SBATCH -p gpu
#SBATCH -A astro
#SBATCH -n 1
#SBATCH --cpus-per-task=32
#SBATCH --mem=120G
#SBATCH -t 1-00:00:00
#SBATCH -o /shared/me/logs/twinlines-%j.log
#SBATCH --gres=gpu:a100:4
export MALLOC_TRIM_THRESHOLD_=268435456
export MALLOC_MMAP_THRESHOLD_=33554432
export MALLOC_ARENA_MAX=1
export OMP_NUM_THREADS=1
export MKL_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export NUMEXPR_NUM_THREADS=1
export RAYON_NUM_THREADS=1
export BLOSC_NTHREADS=1
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False
export PYTHONSAFEPATH=1
export DASK_DISTRIBUTED__WORKER__LIFETIME__DURATION=85380s
export DASK_DISTRIBUTED__WORKER__LIFETIME__STAGGER=900s
module load gcc
/opt/twinlines/bin/python -m dask_cuda.cli tls://login1:8786 --name twinlines-0 --nthreads 3 --memory-limit 30.00GiB --death-timeout 60 --local-directory $TMPDIR --dashboard-address 127.0.0.1:0 --resources GPU=1 --device-memory-limit 0 --protocol tls --tls-ca-file /shared/me/tls-NAME/cert.pem --tls-cert /shared/me/tls-NAME/cert.pem --tls-key /shared/me/tls-NAME/key.pem
