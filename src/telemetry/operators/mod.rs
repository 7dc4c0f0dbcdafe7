//! Files for operators: alerting rules for Prometheus and a dashboard for Grafana. The command `caxton config` prints
//! them.

/// Alerting rules for Prometheus, in YAML.
pub const ALERTS: &str = include_str!("alerts.yaml");

/// A dashboard for Grafana, in JSON.
pub const DASHBOARD: &str = include_str!("dashboard.json");

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use super::*;
    use crate::telemetry::metrics::METRICS;
    use serde_json::Value;
    use std::collections::HashSet;

    /// The chapter that says what to do about each alert.
    const DIAGNOSIS: &str = include_str!("../../manual/diagnosis.md");

    /// Functions and keywords of `PromQL` that stand where names of metrics do.
    const WORDS: [&str; 9] = ["rate", "increase", "sum", "by", "histogram_quantile", "label_values", "up", "and", "or"];

    /// Checks that an expression names only metrics and labels of the router.
    fn check(expression: &str) {
        let series: HashSet<String> = METRICS.iter().flat_map(crate::telemetry::metric::Metric::series).collect();
        let own = METRICS.iter().flat_map(|metric| metric.labels).copied();
        let labels: HashSet<&str> = own.chain(["le", "job", "instance"]).collect();
        let mut rest = expression.to_owned();
        // Strings, ranges and variables are no names.
        for (from, to) in [('"', '"'), ('[', ']')] {
            while let Some((before, after)) =
                rest.split_once(from).map(|(one, other)| (one.to_owned(), other.to_owned()))
            {
                rest = before + " ~ " + after.split_once(to).expect("it is closed").1;
            }
        }
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let mut metrics = 0;
        for (place, _) in rest.match_indices(|letter: char| letter.is_ascii_alphabetic()) {
            if rest[..place].ends_with(is_part) {
                continue;
            }
            let word: String = rest[place..].chars().take_while(|letter| is_part(*letter)).collect();
            let known = WORDS.contains(&word.as_str()) || labels.contains(word.as_str());
            assert!(known || series.contains(&word), "{word} in {expression}");
            metrics += usize::from(series.contains(&word) || word == "up");
        }
        assert!(metrics > 0, "{expression}");
    }

    #[test]
    fn the_alerts_name_metrics_that_exist_and_are_in_the_manual() {
        let values = |key: &'static str| {
            ALERTS.lines().filter_map(move |line| line.trim().trim_start_matches("- ").strip_prefix(key))
        };
        let names: Vec<&str> = values("alert: ").collect();
        for name in &names {
            assert!(DIAGNOSIS.contains(&format!("`{name}`")), "the chapter on diagnosis lacks {name}");
        }
        assert!(names.len() > 15 && names.iter().collect::<HashSet<_>>().len() == names.len());
        for expression in values("expr: ") {
            check(&serde_json::from_str::<String>(expression).expect("it is quoted"));
        }
        for time in values("for: ") {
            let (number, unit) = time.split_at(time.len() - 1);
            assert!(number.parse::<u32>().is_ok() && "smhd".contains(unit), "{time}");
        }
        let severities: Vec<&str> = values("severity: ").collect();
        assert!(severities.iter().all(|severity| ["critical", "warning"].contains(severity)));
        for key in ["expr: ", "for: ", "severity: ", "summary: ", "description: "] {
            assert_eq!(values(key).count(), names.len(), "each alert has its {key}");
        }
    }

    #[test]
    fn the_dashboard_names_metrics_that_exist() {
        let dashboard: Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
        let panels = dashboard["panels"].as_array().expect("there are panels");
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().expect("it has one")).collect();
        assert!(expressions.len() > 30);
        for expression in expressions {
            check(expression);
        }
        check(dashboard["templating"]["list"][1]["query"].as_str().expect("it has one"));
    }
}
