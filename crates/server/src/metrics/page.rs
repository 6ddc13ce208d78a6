//! The text of `/metrics`, metric by metric.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;

/// The text as it grows.
pub struct Page<'a>(pub DescriptorEncoder<'a>);

impl Page<'_> {
    /// Begins a metric.
    pub fn metric(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, std::fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    /// A gauge without labels of its own.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        value: f64,
    ) -> std::fmt::Result {
        ConstGauge::new(value).encode(self.metric(name, help, MetricType::Gauge)?)
    }

    /// A counter without labels of its own.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        value: u64,
    ) -> std::fmt::Result {
        ConstCounter::new(value).encode(self.metric(name, help, MetricType::Counter)?)
    }

    /// A counter with one series for each label.
    pub fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = ((&'static str, &'static str), u64)>,
    ) -> std::fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Counter)?;
        for (label, value) in series {
            ConstCounter::new(value).encode(metric.encode_family(&[label])?)?;
        }
        Ok(())
    }

    /// A gauge with one series for each label.
    pub fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: [((&'static str, &'static str), f64); N],
    ) -> std::fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        for (label, value) in series {
            ConstGauge::new(value).encode(metric.encode_family(&[label])?)?;
        }
        Ok(())
    }

    /// A gauge whose labels are what it says.
    pub fn info(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, String)],
        value: u64,
    ) -> std::fmt::Result {
        let mut metric = self.metric(name, help, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)
    }

    /// Histograms without labels of their own: name, help and values.
    pub fn histograms<const N: usize>(
        &mut self,
        histograms: [(&'static str, &'static str, &Histogram); N],
    ) -> std::fmt::Result {
        for (name, help, histogram) in histograms {
            histogram.encode(self.metric(name, help, MetricType::Histogram)?)?;
        }
        Ok(())
    }
}
