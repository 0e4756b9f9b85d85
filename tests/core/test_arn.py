"""Amazon resource names."""

import pytest

from holdfast.core.arn import Arn, InvalidArnError, partition_of


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:backup:eu-north-1:111122223333:backup-vault:Daily",
        "arn:aws:s3:::bucket",
        "arn:aws:rds:eu-north-1:111122223333:snapshot:awsbackup:job-1",
        "arn:aws-cn:iam::111122223333:role/path/name",
    ],
)
def test_an_arn_is_spelled_as_it_was_read(text: str) -> None:
    assert str(Arn.parse(text)) == text


@pytest.mark.parametrize("text", ["", "arn:", "arn:aws:s3::bucket", "urn:aws:s3:::bucket", "arn:aws:s3:::"])
def test_what_is_no_arn_is_refused(text: str) -> None:
    with pytest.raises(InvalidArnError, match="is not an ARN"):
        Arn.parse(text)


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-north-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("dc-helsinki", "aws")],
)
def test_a_region_belongs_to_a_partition(region: str, partition: str) -> None:
    assert partition_of(region) == partition
