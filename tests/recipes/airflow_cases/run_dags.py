"""Runs DAGs as Airflow does, without its services: ``python run_dags.py FILE:DAG ...``, in ``AIRFLOW_HOME``.

``dag.test()`` schedules the tasks, and would run them in its own process. Here an executor of one process runs each
attempt instead, as Airflow's own executors do: by the task SDK's supervisor, which forks it, watches it, and talks to
the API server for it. The executor is forked off before any DAG is imported, as theirs have none either.
"""

import multiprocessing
import sys
from pathlib import Path

import airflow.sdk.execution_time.task_runner  # noqa: F401 - so that each attempt need not
from airflow.configuration import conf
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.executors.workloads import BundleInfo, TaskInstance
from airflow.sdk.definitions import dag as dag_module
from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor, supervise_task
from airflow.utils.db import initdb
from airflow.utils.state import TaskInstanceState

BUNDLE = "dags-folder"
client = None


def begin():
    global client
    client = InProcessTestSupervisor._api_client(object())


def execute(workload, file):
    supervise_task(
        ti=workload, bundle_info=BundleInfo(name=BUNDLE), dag_rel_path=file, token="", client=client,
        subprocess_logs_to_stdout=True,
    )


def main(*wanted):
    initdb()
    with multiprocessing.get_context("fork").Pool(1, begin) as executor:
        folder = Path(conf.get("core", "dags_folder"))
        dags = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name=BUNDLE).dags
        for one in wanted:
            file, _, name = one.partition(":")

            def run(*, ti, file=file, **_):
                ti.set_state(TaskInstanceState.QUEUED)
                executor.apply(execute, (TaskInstance.model_validate(ti, from_attributes=True), file))
                ti.refresh_from_db()
                if ti.state == TaskInstanceState.RUNNING:  # as the scheduler does with an attempt that has died
                    ti.set_state(TaskInstanceState.UP_FOR_RETRY)

            dag_module._run_task = run
            print("DAG", name, dags[name].test().state.value, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
