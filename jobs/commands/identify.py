"""`regulars identify`: finds the customers' ids behind pseudonyms, for the holder of the key.

A keyed hash cannot be reversed. The command hashes the id of every customer of the inputs and compares.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import schemas
from jobs.commands.options import shop_today
from jobs.config.config import Config
from jobs.config.privacy import privacy_key
from jobs.inputs.reader import read_inputs
from jobs.spark.key_filter import rows_with
from jobs.spark.privacy_key import keyed_hashes
from jobs.store.scratch import scratch_folder
from jobs.store.store import Store


def identify(spark: SparkSession, config: Config, pseudonyms: Sequence[str]) -> dict[str, str]:
    """Return the id of each pseudonym or `user_hash` whose customer is in the inputs of today.

    Customers who opted out are not found.
    """
    plain = config.model_copy(update={"privacy": config.privacy.model_copy(update={"pseudonyms": False})})
    with scratch_folder(spark, Store(config.store), "identify") as work:
        used = read_inputs(spark, plain, shop_today(config.timezone), work).used
        ids = [used[table].select("user_id") for table in used if "user_id" in schemas.contract(table).column_names]
        customers = ids[0]
        for more in ids[1:]:
            customers = DataFrame.union(customers, more)
        hashed = customers.distinct().withColumn(
            "pseudonym", keyed_hashes(privacy_key(spark, config))(F.col("user_id"))
        )
        found = rows_with(hashed, "pseudonym", pseudonyms).collect()
    return {row["pseudonym"]: row["user_id"] for row in found}
