"""What the table in Postgres promises beyond what every store does; the server is real."""

from __future__ import annotations

import re
import threading
import time
import uuid
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from autotag.errors import ConfigError, SearchIndexError, UnknownNameError
from autotag.search import Conditions, Filter, StoredPhoto, StoreEncoder, StoreIndex, open_store
from autotag.search.stores.postgres import PostgresStore

pytestmark = pytest.mark.slow
OURS = StoreEncoder("words-1", 16)


def unit(*places):
    found = np.full(16, 1e-3, dtype=np.float32)
    found[list(places)] = 1
    return found / np.linalg.norm(found)


PHOTO = StoredPhoto(
    "/a.jpg", caption="a small dog", keywords=("Oma",), taken="2020-05-17T14:03:59", vector=unit(0)
)


@pytest.fixture
def table():
    return f"photo_{uuid.uuid4().hex}"


@pytest.fixture
def connection(postgres):
    with closing(psycopg.connect(postgres)) as made:
        yield made


def rows(url, query, *values, table):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '20s'")
        names = {"table": sql.Identifier(table)}
        cursor = connection.execute(sql.SQL(query).format(**names), values or None)
        return cursor.fetchall() if cursor.description else []


def test_everything_is_in_the_caller_s_transaction(postgres, connection, table):
    store = PostgresStore(connection, table)
    store.upsert([PHOTO], encoder=OURS)
    assert store.search(unit(0), 1)[0][1] > 0.99
    assert rows(postgres, "SELECT to_regclass(%s)", table, table=table) == [(None,)]
    connection.rollback()
    with pytest.raises(SearchIndexError, match="does not exist"):
        store.count()
    connection.rollback()

    store = PostgresStore(connection, table)
    store.upsert([StoredPhoto("/first.jpg", vector=unit(3))], encoder=OURS)
    connection.commit()
    connection.execute("CREATE TEMPORARY TABLE orders (number int)")
    store.upsert([PHOTO], encoder=OURS)
    with pytest.raises(SearchIndexError, match="cannot be compared"):
        store.upsert([PHOTO], encoder=StoreEncoder("other", 16))
    connection.execute("INSERT INTO orders VALUES (1)")  # his transaction is alive
    assert rows(postgres, "SELECT count(*) FROM {table}", table=table) == [(1,)]
    connection.commit()
    assert rows(postgres, "SELECT count(*) FROM {table}", table=table) == [(2,)]
    store.close()
    assert not connection.closed


def test_a_search_leaves_no_setting_behind(connection, table):
    store = PostgresStore(connection, table)
    store.upsert([PHOTO], encoder=OURS)
    before = connection.execute("SHOW hnsw.ef_search").fetchone()
    store.search(unit(0), 1, effort=777)
    assert connection.execute("SHOW hnsw.ef_search").fetchone() == before


def test_plain_sql_reads_and_writes_the_table(postgres, table):
    with closing(open_store(postgres, table=table)) as store:
        store.upsert([PHOTO], encoder=OURS)
        query = (
            "SELECT path FROM {table} WHERE labels @> '{{oma}}' AND taken >= '2020-05-01' "
            "AND words @@ websearch_to_tsquery('english', 'dogs') ORDER BY vector <#> %s::halfvec"
        )
        assert rows(postgres, query, str(unit(0).tolist()), table=table) == [("/a.jpg",)]
        rows(postgres, "ALTER TABLE {table} ADD COLUMN rating int", table=table)
        rows(postgres, "UPDATE {table} SET rating = 5", table=table)
        store.upsert([PHOTO], encoder=OURS)
        assert rows(postgres, "SELECT rating FROM {table}", table=table) == [(5,)]
        rows(postgres, "INSERT INTO {table} (path) VALUES ('/b.jpg')", table=table)
        rows(postgres, "UPDATE {table} SET tags = '{{dog,cat}}' WHERE path = '/b.jpg'", table=table)
        [added] = store.photos(list(store.ids(["/b.jpg"]).values())).values()
        assert [tag.text for tag in added.tags] == ["dog", "cat"]
        assert store.count() == 2


def test_a_connection_that_gives_other_rows_will_do(postgres, table):
    with closing(psycopg.connect(postgres, row_factory=dict_row, autocommit=True)) as connection:
        store = PostgresStore(connection, table)
        store.upsert([PHOTO], encoder=OURS)
        [(photo, _)] = store.search(unit(0), 1)
        assert store.photos([photo])[photo].caption == PHOTO.caption
        assert [path for path, _ in store.known([], ["/"])] == ["/a.jpg"]
        assert (store.count(), store.generation(), store.newest(1)) == (1, 1, [photo])


def test_the_page_says_which_columns_there_are_and_its_query_runs(postgres):
    page = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "stores.md").read_text("utf-8")
    told = re.findall(r"^\| (`[a-z_`, ]+`) \|", page.partition("| column |")[2], re.MULTILINE)
    with closing(open_store(postgres, table="photo")) as store:
        store.upsert(
            [replace(PHOTO, caption="a beach"), StoredPhoto("/dog.jpg", keywords=("Dog",))], encoder=OURS
        )
        columns = store.connection.execute("SELECT * FROM photo LIMIT 0").description
        assert [name for cell in told for name in re.findall("[a-z_]+", cell)] == [
            one.name for one in columns
        ]
        query = page.partition("```sql\n")[2].partition("```")[0]
        assert store.connection.execute(query).fetchall() == []
        store.connection.execute("DROP TABLE photo, photo_about")


def test_a_table_in_a_schema(postgres, table):
    rows(postgres, "CREATE SCHEMA IF NOT EXISTS gallery", table=table)
    with closing(open_store(postgres, table=f"gallery.{table}")) as store:
        store.upsert([PHOTO], encoder=OURS)
        store.build_approximate()
    assert rows(postgres, "SELECT to_regclass(%s) IS NULL", table, table=table) == [(True,)]
    with closing(open_store(postgres, table=f"gallery.{table}", create=False)) as store:
        assert store.count() == 1


def test_a_table_of_another_shape_is_refused_and_left_alone(postgres, table):
    rows(postgres, "CREATE TABLE {table} (id bigint, path text, taken text)", table=table)
    with pytest.raises(
        SearchIndexError, match=r"lacks: .*caption text, .*taken timestamp.*\(it is text\)"
    ) as caught:
        open_store(postgres, table=table)
    assert "--table NAME" in str(caught.value)
    assert rows(postgres, "SELECT to_regclass(%s || '_about')", table, table=table) == [(None,)]


def test_a_table_of_the_first_version_gets_its_new_column_from_the_next_writer(postgres, table):
    with closing(open_store(postgres, table=table)) as store:
        store.upsert([PHOTO], encoder=OURS)
    rows(postgres, "ALTER TABLE {table} DROP COLUMN sidecars", table=table)
    with pytest.raises(SearchIndexError, match="earlier autotag .*autotag index --store URL"):
        open_store(postgres, table=table, create=False)
    with closing(open_store(postgres, table=table)) as store:
        [(path, known)] = store.known([], ["/"])
        assert (path, known.sidecars, known.has_vector) == ("/a.jpg", "", True)
    with closing(open_store(postgres, table=table, create=False)) as store:
        assert store.count() == 1


def test_a_table_that_is_not_there_is_made_only_when_it_is_wanted(postgres, table):
    with pytest.raises(SearchIndexError, match="autotag index FOLDER --store"):
        open_store(postgres, table=table, create=False)
    assert rows(postgres, "SELECT to_regclass(%s)", table, table=table) == [(None,)]


@pytest.mark.parametrize("name", ["", ".", "a..b", "100%", "x" * 58])
def test_a_wrong_name_of_a_table_is_refused(postgres, name):
    with pytest.raises(ConfigError, match="at most 57 bytes"):
        open_store(postgres, table=name)


def test_a_name_is_taken_as_it_is(postgres):
    table = f'Ph"oto; {uuid.uuid4().hex[:8]} {{}} ü'
    with closing(open_store(postgres, table=table)) as store:
        store.upsert([PHOTO], encoder=OURS)
        store.build_approximate()
        assert len(store.search(unit(0), 1, effort=100)) == 1


SECRET = "s3cr:t/pass"  # noqa: S105 - of nobody


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{quote(SECRET, safe='')}@127.0.0.1:1/photos",
        f"postgresql://me:{quote(SECRET, safe='')}@no-such-host.invalid/photos?connect_timeout=3",
        f"postgresql://me:{SECRET}@host/photos",
        "postgresql://me:12/s3cr@host/photos",
        "postgresql://me:s3cr@t@host/photos",
        "postgresql://me:s3cr?t@host/photos",
        "postgresql://me:s3cr#t%@host/photos",
        f"postgresql://me:{SECRET}@[::1/photos",
        f"postgresql://me:{SECRET}@host:port:port/photos",
        f"postgresql://me:{quote(SECRET, safe='')}@host/photos?nonsense=1",
    ],
)
def test_a_server_that_cannot_be_reached_is_named_without_the_password(url):
    with pytest.raises(SearchIndexError) as caught:
        open_store(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cr" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_wrong_password_is_not_printed(postgres, table):
    with closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'right'")
        try:
            given = psycopg.conninfo.make_conninfo(postgres, user="stranger", password=SECRET)
            with pytest.raises(SearchIndexError) as caught, closing(PostgresStore.open(given, table=table)):
                pass
            assert SECRET not in str(caught.value)
            assert "stranger@" in str(caught.value)
        finally:
            connection.execute("DROP ROLE stranger")


@pytest.mark.parametrize("url", ["photos.db", "mysql://host/photos", "://"])
def test_an_unknown_url_says_what_there_is(url):
    with pytest.raises((ConfigError, UnknownNameError), match="postgresql"):
        open_store(url)


def test_a_database_without_the_extension_says_who_can_set_it_up(postgres):
    name = f"plain_{uuid.uuid4().hex[:8]}"
    with closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        connection.execute(f"CREATE ROLE {name} LOGIN")
        given = psycopg.conninfo.make_conninfo(postgres, dbname=name, user=name)
        try:
            with pytest.raises(SearchIndexError, match="administrator run: CREATE EXTENSION vector"):
                PostgresStore.open(given)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
            connection.execute(f"DROP ROLE {name}")


def test_a_reader_without_rights_to_write_can_search(postgres, table):
    role = f"reader_{uuid.uuid4().hex[:8]}"
    with closing(psycopg.connect(postgres, autocommit=True)) as connection:
        with closing(open_store(postgres, table=table)) as store:
            store.upsert([PHOTO], encoder=OURS)
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"GRANT SELECT ON {table}, {table}_about TO {role}")
        given = psycopg.conninfo.make_conninfo(postgres, user=role)
        try:
            with closing(PostgresStore.open(given, table=table, create=False)) as store:
                assert len(store.search(unit(0), 1, effort=100)) == 1
                assert len(store.search_words(["dog"], 1)) == 1
                with pytest.raises(SearchIndexError, match="may not do this"):
                    store.delete([1])
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


def test_a_second_writer_waits_and_then_is_refused_clearly(postgres, connection, table):
    with closing(open_store(postgres, table=table)) as second:
        first = PostgresStore(connection, table)
        first.upsert([PHOTO], encoder=OURS)  # its transaction is open
        second.connection.execute("SET lock_timeout = '200ms'")
        with pytest.raises(SearchIndexError, match="another program has been writing"):
            second.upsert([StoredPhoto("/b.jpg")])
        second.connection.execute("SET lock_timeout = '30s'")
        waiting = threading.Thread(target=second.upsert, args=([StoredPhoto("/b.jpg")],))
        waiting.start()
        time.sleep(0.2)
        assert waiting.is_alive()
        assert second.connection.info.status == psycopg.pq.ConnStatus.OK
        connection.commit()
        waiting.join(20)
        assert second.count() == 2
        assert second.generation() == 2


def test_a_long_transaction_keeps_nobody_from_opening_and_reading(postgres, connection, table):
    with closing(open_store(postgres, table=table)) as store:
        store.upsert([PHOTO], encoder=OURS)
    PostgresStore(connection, table).upsert([StoredPhoto("/b.jpg", vector=unit(1))], encoder=OURS)
    impatient = psycopg.conninfo.make_conninfo(postgres, options="-c statement_timeout=5s")
    with closing(PostgresStore.open(impatient, table=table)) as store:
        assert (store.count(), len(store.search(unit(0), 5))) == (1, 1)


def test_writers_at_once_lose_nothing(postgres, table):
    failed = []

    def write(number):
        try:
            with closing(open_store(postgres, table=table)) as store:  # all of them make the table
                for place in range(5):
                    photos = [
                        StoredPhoto(f"/{number}/{place}.jpg", vector=unit(number)),
                        StoredPhoto("/shared.jpg"),
                    ]
                    store.upsert(photos, encoder=OURS)
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    with closing(open_store(postgres, table=table)) as store:
        assert (store.count(), store.generation()) == (21, 20)


def test_a_connection_that_the_server_ends_is_told_and_made_again_by_the_next_call(
    postgres, connection, table
):
    def end(store):
        rows(postgres, "SELECT pg_terminate_backend(%s)", store.connection.info.backend_pid, table=table)
        with pytest.raises(SearchIndexError, match="terminat"):
            store.count()

    with closing(open_store(postgres, table=table)) as store:
        end(store)
        store.upsert([PHOTO], encoder=OURS)
        assert store.search(unit(0), 1)[0][1] > 0.99
    with pytest.raises(SearchIndexError, match="closed"):
        store.count()
    callers = PostgresStore(connection, table)
    connection.commit()
    end(callers)
    with pytest.raises(SearchIndexError, match="lost|closed"):  # it is not ours to make again
        callers.count()


def test_a_path_that_is_too_long_is_told(postgres, table):
    random = np.random.default_rng(0)
    path = "/" + "".join(chr(int(number)) for number in random.integers(0x4E00, 0x9FFF, 3000))
    with closing(open_store(postgres, table=table)) as store:
        with pytest.raises(SearchIndexError, match="2,700 bytes"):
            store.upsert([StoredPhoto(path)])
        assert store.count() == 0


def test_a_filtered_approximate_search_gives_all_that_there_are(postgres, table):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(4000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    photos = [
        StoredPhoto(f"/{'rare' if number % 1000 == 7 else 'many'}/{number}.jpg", vector=vector)
        for number, vector in enumerate(vectors)
    ]
    with closing(open_store(postgres, table=table)) as store:
        store.upsert(photos, encoder=OURS)
        store.build_approximate()
        store.build_approximate()
        store.connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
        exact = store.search(vectors[0], 10)
        assert store.search(vectors[0], 10, effort=200)[0] == exact[0]
        found = [
            len(set(dict(store.search(one, 10))) & set(dict(store.search(one, 10, effort=200))))
            for one in vectors[:50]
        ]
        assert sum(found) / 500 > 0.95
        rare = Conditions(Filter(folder="rare"))
        assert store.search(vectors[0], 10, rare, effort=10) == store.search(vectors[0], 10, rare)
        assert len(store.search(vectors[0], 10, rare, effort=10)) == 4
        explained = store.connection.execute(
            sql.SQL("EXPLAIN SELECT id FROM {} ORDER BY vector <#> %s LIMIT 10").format(
                sql.Identifier(table)
            ),
            (str(vectors[0].tolist()),),
        ).fetchall()
        assert "hnsw" in str(explained)


def test_an_approximate_search_is_used_only_when_it_was_measured_to_be_good(postgres, table, monkeypatch):
    with StoreIndex.open(postgres, table=table, encoder=Lengths()) as index:
        with pytest.raises(SearchIndexError, match="no photograph with a vector"):
            index.accelerate()
        photos = [
            StoredPhoto(f"/{n}.jpg", caption="x" * (1 + n % 40), vector=unit(n % 16, n % 7))
            for n in range(300)
        ]
        index.store.upsert(photos, encoder=OURS)
        asked = []
        search = PostgresStore.search
        monkeypatch.setattr(
            PostgresStore,
            "search",
            lambda self, *given, effort=None: asked.append(effort) or search(self, *given, effort=effort),
        )
        index.search("xxx", by="vectors")
        assert asked == [None]
        gate = index.accelerate()
        assert gate.passed
        assert index.stats()["approximate"] == {
            "effort": gate.effort,
            "recall": pytest.approx(gate.image_recall, abs=0.02),
        }
        asked.clear()
        index.search("xxx", by="vectors")
        assert asked == [gate.effort]
        monkeypatch.setattr(
            PostgresStore, "search", lambda self, *given, effort=None: [] if effort else search(self, *given)
        )
        assert not index.accelerate().passed
        assert index.stats()["approximate"] is None


@dataclass
class Lengths:
    """An encoder that tells texts apart by their length."""

    id: str = OURS.id
    default_thresholds: dict[str, float] = field(default_factory=dict)

    def embed_texts(self, texts):
        return np.stack([unit(len(text) % 16) for text in texts])

    def embed_images(self, images):
        return self.embed_texts(["x" for _ in images])
