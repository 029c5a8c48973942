"""The configuration: what is refused, how it says so, and that it survives a round trip."""

import math

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dsaflow.config import Config, load_config
from dsaflow.config.consistency import needed_width_deg
from dsaflow.errors import ConfigError


def leaves(schema, definitions, path=()):
    """Every option of a JSON schema: (path, its schema)."""
    for name, item in schema["properties"].items():
        if "$ref" in item:
            inner = definitions[item["$ref"].rsplit("/", 1)[1]]
            yield from leaves(inner, definitions, (*path, name))
        else:
            yield (*path, name), item


SCHEMA = Config.model_json_schema()
LEAVES = dict(leaves(SCHEMA, SCHEMA["$defs"]))
NUMBERS = {path: item for path, item in LEAVES.items() if item.get("type") in ("number", "integer")}


def nested(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


def at(config, path):
    for key in path:
        config = getattr(config, key)
    return config


def valid_number(item):
    low = item.get("minimum", item.get("exclusiveMinimum"))
    high = item.get("maximum", item.get("exclusiveMaximum"))
    if item["type"] == "integer":
        step = item.get("multipleOf", 1)
        low = -1000 if low is None else -(-low // step)
        return st.integers(low, high if high is not None else 10**6).map(lambda n: n * step)
    return st.floats(
        low + 1e-6 * ("exclusiveMinimum" in item) if low is not None else -1e9,
        high - 1e-6 * ("exclusiveMaximum" in item) if high is not None else 1e9,
    )


def valid_option(path):
    return valid_number(NUMBERS[path]).map(lambda value: (path, value))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(NUMBERS)).flatmap(valid_option))
def test_any_valid_number_is_kept_and_survives_yaml(option):
    path, value = option
    try:
        config = load_config(nested(path, value))
    except ConfigError:
        assume(False)  # it contradicts another option's default
    assert at(config, path) == value
    again = load_config(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))))
    assert again == config
    assert again.science_hash() == config.science_hash()


@pytest.mark.parametrize("path", sorted(NUMBERS), ids=".".join)
def test_numbers_outside_their_range_are_refused_by_name(path):
    item = NUMBERS[path]
    bad = ["many", math.nan, math.inf]
    bad += [item[k] - 1 for k in ("minimum", "exclusiveMinimum") if k in item]
    bad += [item[k] for k in ("exclusiveMinimum", "exclusiveMaximum") if k in item]
    bad += [item[k] + 1 for k in ("maximum", "exclusiveMaximum") if k in item]
    for value in bad:
        with pytest.raises(ConfigError, match=r"\.".join(path)):
            load_config(nested(path, value))


@pytest.mark.parametrize(
    ("content", "wrong", "near"),
    [
        ({"imge": {}}, "imge", "image"),
        ({"image": {"robustness": 0}}, "image.robustness", "robust"),
        ({"image": {"pixel_arcsecs": 8}}, "image.pixel_arcsecs", "pixel_arcsec"),
        (
            {"instrument": {"beam": {"diameter_m": 4.7}}},
            "instrument.beam.diameter_m",
            "_diameter_m",
        ),
        ({"plan": {"mosaic_tile": 5}}, "plan.mosaic_tile", "mosaic_tiles"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_name(content, wrong, near):
    with pytest.raises(ConfigError, match=rf"{wrong}: unknown key; did you mean '\w*{near}'"):
        load_config(content)


def test_unknown_key_far_from_any_lists_what_is_known():
    with pytest.raises(ConfigError, match=r"instrument\.zzz: unknown key; known: sefd_jy, beam"):
        load_config({"instrument": {"zzz": 1}})


def test_every_wrong_key_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        load_config({"image": {"size": "big", "robust": 7}, "flags": {}})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["image.size", "image.robust", "flags"]


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"image": {"engine": "casa"}}, "image.engine"),
        ({"image": {"size": 2400.5}}, "image.size"),
        ({"image": None}, "image"),
        ({"paths": {"incoming": 3}}, "paths.incoming"),
        ({"calibrate": {"reference_antennas": [103]}}, "calibrate.reference_antennas.0"),
        ({"calibrate": {"reference_antennas": "103"}}, "calibrate.reference_antennas"),
        ({"plan": {"centred": "perhaps"}}, "plan.centred"),
    ],
)
def test_wrong_types_are_refused_by_name(content, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        load_config(content)


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("- image\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: expected keys and values, got list"):
        load_config(file)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ({"image": {"size": 1024, "pixel_arcsec": 10}}, r"raise image\.size to 15\d\d"),
        ({"image": {"mask_sigma": 6, "clean_sigma": 5}}, r"mask_sigma \(6\) must be below"),
        ({"qa": {"noise_low": 4, "noise_high": 3}}, r"qa\.noise_low \(4\).*lower the first"),
        ({"image": {"noise_warn": 60}}, r"image\.noise_warn \(60\).*lower the first"),
        ({"plan": {"centred": False, "sliding": False}}, "set one to true"),
        ({"plan": {"min_tiles": 11}}, "lower the first or raise the second"),
        ({"calibrate": {"gain_validity_hours": 30}}, "lower the first or raise the second"),
        (
            {"instrument": {"beam": {"table_freq_hz": [1.4e9], "table_diameter_m": []}}},
            "same length",
        ),
        (
            {
                "instrument": {
                    "beam": {"table_freq_hz": [1.5e9, 1.3e9], "table_diameter_m": [4.6, 4.6]}
                }
            },
            "must ascend",
        ),
        (
            {"instrument": {"beam": {"table_freq_hz": [1405.0], "table_diameter_m": [4.6]}}},
            "is in Hz",
        ),
        ({"paths": {"published": "results/published"}}, "a folder of its own"),
        ({"paths": {"results": "data", "incoming": "data"}}, "a folder of its own"),
    ],
)
def test_contradictions_say_what_to_change(content, advice):
    with pytest.raises(ConfigError, match=advice):
        load_config(content)


def test_advised_image_size_is_accepted():
    with pytest.raises(ConfigError) as caught:
        load_config({"image": {"size": 1024, "pixel_arcsec": 10}})
    words = str(caught.value).split()
    size = int(words[words.index("to") + 1].rstrip(","))
    assert load_config({"image": {"size": size, "pixel_arcsec": 10}}).image.size == size
    with pytest.raises(ConfigError, match=r"raise image\.size"):
        load_config({"image": {"size": size - 8, "pixel_arcsec": 10}})


def test_needed_width_is_the_drift_averaged_beam_at_the_lowest_frequency():
    # Airy at 20 %: x = 2.3227 (tables of J1), so r = x c / (pi D f); the drift widens it along RA.
    still = 2 * math.degrees(2.3227 * 299792458.0 / (math.pi * 4.65 * 1311.25e6))
    width = needed_width_deg(Config())
    assert still < width < still + 1.292
    assert width == pytest.approx(4.4, abs=0.05)
    wider = load_config(
        {"image": {"size": 4000}, "instrument": {"beam": {"effective_diameter_m": 4}}}
    )
    assert needed_width_deg(wider) > width
    assert needed_width_deg(load_config({"image": {"field_response": 0.5}})) < 0.8 * width


def test_hash_follows_the_science_only():
    default = Config().science_hash()
    assert load_config({"image": {"robust": 0.0}}).science_hash() != default
    assert (
        load_config({"instrument": {"beam": {"effective_diameter_m": 4.6}}}).science_hash()
        != default
    )
    assert load_config({"paths": {"results": "elsewhere"}}).science_hash() == default
    assert load_config({"publish": {"link": False}}).science_hash() == default


def test_assignment_is_checked_too():
    config = Config()
    with pytest.raises(ValueError, match="greater than or equal"):
        config.image.size = 4
