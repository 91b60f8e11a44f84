"""Does the real tritonclient work against a running service?

    triton_client.py HOST:PORT --simple NAME --string NAME [--identity NAME] [--server-name NAME] [--control]

Does what Triton's own HTTP examples do (infer, async_infer, aio_infer, string_infer, health_metadata,
model_control), and what users do beside: packed bodies, many rows, JSON, wrong shapes. One line a check; the first
one that fails ends the process with its traceback.
"""

import argparse
import asyncio
import contextlib

import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

PACKINGS = [(None, None), ("gzip", None), ("deflate", None), (None, "gzip"), (None, "deflate"), ("gzip", "deflate")]


def numbers(rows=1):
    """INPUT0 and INPUT1 of `simple`: another number in every place."""
    first = np.arange(rows * 16, dtype=np.int32).reshape(rows, 16)
    return first, np.full((rows, 16), -1, dtype=np.int32)


def inputs_of(first, second, datatype="INT32", binary=(True, True), api=http):
    tensors = []
    for name, values, in_binary in zip(("INPUT0", "INPUT1"), (first, second), binary):
        tensor = api.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, binary_data=in_binary)
        tensors.append(tensor)
    return tensors


def outputs_of(*binary, api=http):
    names = ("OUTPUT0", "OUTPUT1")
    return [api.InferRequestedOutput(name, binary_data=one) for name, one in zip(names, binary)]


def check_sums(result, first, second):
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), first + second)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), first - second)


@contextlib.contextmanager
def refused(words, status=None):
    """The client must have read the error's text, not a riddle about decoding it."""
    try:
        yield
    except InferenceServerException as error:
        assert words in error.message(), error
        assert status is None or error.status() == str(status), error
    else:
        raise AssertionError(f"no error with {words!r}")


def health_metadata(client, names):
    assert client.is_server_live(query_params={"test_1": 1, "test_2": 2})
    assert client.is_server_ready()
    assert client.is_model_ready(names.simple)
    assert client.is_model_ready(names.simple, "1")
    assert not client.is_model_ready("wrong_model_name")
    assert not client.is_model_ready(names.simple, "99")
    server = client.get_server_metadata()
    assert server["name"] == names.server_name, server
    assert {"binary_tensor_data", "statistics", "model_repository"} <= set(server["extensions"]), server
    model = client.get_model_metadata(names.simple, query_params={"test_1": 1})
    assert model["name"] == names.simple and model["versions"] == ["1"], model
    assert model["inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}, model
    assert client.get_model_metadata(names.simple, "1") == model
    with refused("Request for unknown model", 404):
        client.get_model_metadata("wrong_model_name")


def config_and_statistics(client, names):
    config = client.get_model_config(names.simple)
    assert config["name"] == names.simple and config["max_batch_size"] > 0, config
    assert config["input"][0] == {"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [16]}, config

    def successes():
        (stat,) = client.get_inference_statistics(names.simple)["model_stats"]
        assert (stat["name"], stat["version"]) == (names.simple, "1"), stat
        for part in ("success", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"):
            assert set(stat["inference_stats"][part]) == {"count", "ns"}, stat
        return stat["inference_stats"]["success"]["count"]

    before = successes()
    client.infer(names.simple, inputs_of(*numbers()))
    assert successes() > before
    assert len(client.get_inference_statistics()["model_stats"]) >= 2
    with refused("Request for unknown model", 404):
        client.get_inference_statistics("wrong_model_name")


def infer(client, names):
    first, second = numbers()
    # What users write: all defaults, binary both ways.
    result = client.infer(names.simple, inputs_of(first, second))
    check_sums(result, first, second)
    assert result.get_response()["model_version"] == "1", result.get_response()
    for request, response in PACKINGS:
        for rows in (1, 3, 40):
            first, second = numbers(rows)
            for binary in ((False, True), (True, False), (False, False)):
                for outputs in (None, outputs_of(True, False), outputs_of(False, False)):
                    result = client.infer(
                        names.simple,
                        inputs_of(first, second, binary=binary),
                        outputs=outputs,
                        request_id="r-7",
                        query_params={"test_1": 1},
                        priority=1,
                        timeout=20_000_000,
                        request_compression_algorithm=request,
                        response_compression_algorithm=response,
                    )
                    check_sums(result, first, second)
                    assert result.get_response()["id"] == "r-7"
    one = client.infer(names.simple, inputs_of(first, second), outputs=[http.InferRequestedOutput("OUTPUT1")])
    assert one.as_numpy("OUTPUT0") is None
    np.testing.assert_array_equal(one.as_numpy("OUTPUT1"), first - second)


def refusals(client, names):
    first, second = numbers()
    with refused("Request for unknown model", 404):
        client.infer("wrong_model_name", inputs_of(first, second))
    with refused("takes INT32[-1,16]", 400):
        client.infer(names.simple, inputs_of(first[:, :8], second))
    with refused("takes INT32[-1,16]", 400):
        client.infer(names.simple, inputs_of(first.astype(np.float32), second.astype(np.float32), "FP32"))
    with refused("'INPUT1' is missing", 400):
        client.infer(names.simple, inputs_of(first, second)[:1])
    with refused("unexpected inference output 'NONE'", 400):
        client.infer(names.simple, inputs_of(first, second), outputs=[http.InferRequestedOutput("NONE")])
    with refused("sequences are not served", 400):
        client.infer(names.simple, inputs_of(first, second), sequence_id=5, sequence_start=True)
    with refused("classification", 400):
        outputs = [http.InferRequestedOutput("OUTPUT0", class_count=3)]
        client.infer(names.simple, inputs_of(first, second), outputs=outputs)
    # A refusal leaves the connection usable.
    check_sums(client.infer(names.simple, inputs_of(first, second)), first, second)


def async_infer(client, names):
    waiting = []
    for rows in range(1, 9):
        first, second = numbers(rows)
        waiting.append((first, second, client.async_infer(names.simple, inputs_of(first, second))))
    for first, second, request in waiting:
        check_sums(request.get_result(), first, second)
    with refused("Request for unknown model"):
        client.async_infer("wrong_model_name", inputs_of(*numbers())).get_result()


def texts_of(values):
    return np.array([str(value).encode() for value in values.flatten()], dtype=np.object_).reshape(values.shape)


def string_infer(client, names):
    first, second = numbers(2)
    for binary in ((True, True), (True, False), (False, False)):
        for outputs in (None, outputs_of(True, False)):
            tensors = inputs_of(texts_of(first), texts_of(second), "BYTES", binary)
            result = client.infer(names.string, tensors, outputs=outputs)
            for name, want in (("OUTPUT0", first + second), ("OUTPUT1", first - second)):
                np.testing.assert_array_equal(result.as_numpy(name).astype(np.int32), want)
    if names.identity:
        strings_come_back(client, names.identity)


def strings_come_back(client, model):
    for text in (b"he\x00llo", "Grüße".encode(), b"", b"\x00\x01\x02\x03"):
        values = np.array([text] * 16, dtype=np.object_).reshape(1, 16)
        for binary in (True, False):
            tensor = http.InferInput("INPUT0", [1, 16], "BYTES")
            tensor.set_data_from_numpy(values, binary_data=binary)
            outputs = [http.InferRequestedOutput("OUTPUT0", binary_data=binary)]
            back = client.infer(model, [tensor], outputs=outputs).as_numpy("OUTPUT0")
            # JSON gives str, binary gives bytes.
            assert [one if isinstance(one, bytes) else one.encode() for one in back.flatten()] == [text] * 16, back
    tensor = http.InferInput("INPUT0", [1, 16], "BYTES")
    tensor.set_data_from_numpy(np.array([b"\xff"] * 16, dtype=np.object_).reshape(1, 16))
    with refused("is not UTF-8", 400):
        client.infer(model, [tensor], outputs=[http.InferRequestedOutput("OUTPUT0", binary_data=False)])


def model_control(client, names):
    index = client.get_model_repository_index()
    assert {"name", "version", "state", "reason"} <= set(index[0]), index
    if not names.control:
        with refused("OIP_MODEL_CONTROL"):
            client.unload_model(names.simple)
        return
    client.load_model(names.simple)
    assert client.is_model_ready(names.simple)
    with refused("failed to load"):
        client.load_model(names.simple, config='"parameters": {"config": {{"max_batch_size": "16"}}}')
    client.unload_model(names.simple)
    assert not client.is_model_ready(names.simple)
    with refused("Request for unknown model"):
        client.infer(names.simple, inputs_of(*numbers()))
    client.load_model(names.simple)
    check_sums(client.infer(names.simple, inputs_of(*numbers())), *numbers())
    with refused("failed to load"):
        client.load_model("wrong_model_name")


async def aio_all(url, names):
    async with aio.InferenceServerClient(url) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready(names.simple)
        assert (await client.get_server_metadata())["name"] == names.server_name
        assert (await client.get_model_metadata(names.simple))["versions"] == ["1"]
        assert (await client.get_model_config(names.simple))["max_batch_size"] > 0
        assert (await client.get_inference_statistics(names.simple))["model_stats"][0]["name"] == names.simple
        assert await client.get_model_repository_index()
        for request, response in PACKINGS:
            for rows in (1, 40):
                first, second = numbers(rows)
                for outputs in (None, outputs_of(True, False, api=aio)):
                    result = await client.infer(
                        names.simple,
                        inputs_of(first, second, binary=(True, False), api=aio),
                        outputs=outputs,
                        request_compression_algorithm=request,
                        response_compression_algorithm=response,
                    )
                    check_sums(result, first, second)
        first, second = numbers(1)
        together = [client.infer(names.simple, inputs_of(first, second, api=aio)) for _ in range(20)]
        for result in await asyncio.gather(*together):
            check_sums(result, first, second)
        with refused("Request for unknown model", 404):
            await client.infer("wrong_model_name", inputs_of(first, second, api=aio))
        with refused("Request for unknown model", 404):
            await client.get_model_metadata("wrong_model_name")
        with refused("takes INT32[-1,16]", 400):
            await client.infer(names.simple, inputs_of(first[:, :8], second, api=aio))


def aio_infer(_, names):
    asyncio.run(aio_all(names.url, names))


CHECKS = [
    health_metadata,
    config_and_statistics,
    infer,
    refusals,
    async_infer,
    string_infer,
    aio_infer,
    model_control,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="host:port, without a scheme")
    parser.add_argument("--simple", required=True, help="a model of INT32 [-1,16]: sum and difference of its two inputs")
    parser.add_argument("--string", required=True, help="the same with BYTES that hold digits")
    parser.add_argument("--identity", help="a model of BYTES [-1,16] that gives back what it gets")
    parser.add_argument("--server-name", default="infer-router", help="what GET /v2 must say")
    parser.add_argument("--control", action="store_true", help="loading and unloading is switched on")
    names = parser.parse_args()
    with http.InferenceServerClient(names.url, concurrency=8) as client:
        for check in CHECKS:
            check(client, names)
            print(f"PASS {check.__name__}", flush=True)


if __name__ == "__main__":
    main()
